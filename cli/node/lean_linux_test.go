package node

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// smap is an entry of smaps, cut to the lines that count.
func smap(head, anonymous, swap string) string {
	return head + "\nSize: 8 kB\nRss: 8 kB\nAnonymous:  " + anonymous + " kB\nSwap: " + swap + " kB\nVmFlags: rd ex\n"
}

func TestOnlyWhatTheFileHoldsIsDropped(t *testing.T) {
	text := smap("00400000-00402000 r-xp 00000000 fe:00 1 /bin/x", "0", "0") +
		smap("00402000-00403000 r--p 00002000 fe:00 1 /bin/x", "4", "0") + // relocated
		smap("00403000-00404000 r--p 00002000 fe:00 1 /bin/x", "0", "4") + // and swapped out
		smap("00404000-00408000 r--p 00003000 fe:00 1 /bin/x", "0", "0") +
		smap("00408000-00409000 rw-p 00003000 fe:00 1 /bin/x", "0", "0") +
		smap("00409000-0040a000 r--p 00003000 fe:00 2 /bin/y", "0", "0") +
		smap("0040a000-0040b000 r--p 00000000 00:00 0", "0", "0") +
		"0040b000-0040c000 r--p 00000000 fe:00 1 /bin/x\nSize: 4 kB\n" // an older kernel
	want := []mapping{{0x400000, 0x2000}, {0x404000, 0x4000}}
	if got := unwritten(text, "/bin/x"); !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := unwritten("x-y r-xp 0 0 0 /bin/x\nAnonymous: 0 kB\n5-4 r-xp 0 0 0 /bin/x\nAnonymous: 0 kB\n", "/bin/x"); got != nil {
		t.Errorf("of no addresses: %x", got)
	}
}

func TestTheProgramRunsOnWithoutItsPages(t *testing.T) {
	if err := Trim(); err != nil {
		t.Fatal(err)
	}
	exe, _ := os.Readlink("/proc/self/exe")
	smaps, _ := os.ReadFile("/proc/self/smaps")
	if strings.Contains(exe, "/") && len(unwritten(string(smaps), exe)) == 0 {
		t.Error("no mapping of the program's file was found")
	}
}
