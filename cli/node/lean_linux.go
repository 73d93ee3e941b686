package node

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lean gives the program's own pages that nobody needs any more back to the kernel,
// until ctx ends. Start-up and enrolment touch most of the program file, which then
// stays resident for as long as the process lives although what runs later is a small
// part of it; the kernel takes such pages only when memory is short. They stay in the
// page cache: what is needed again comes back by minor faults, a few hundred once.
func Lean(ctx context.Context) {
	for wait := 10 * time.Second; ; wait = 10 * time.Minute {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			_ = Trim() // without it the process is a little larger, that is all
		}
	}
}

// Trim is what Lean does, once. It advises the kernel to let go of the mappings of this
// program's file that nobody has written to. With those MADV_DONTNEED loses nothing: the
// file holds the same bytes (madvise(2)).
func Trim() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, m := range unwritten(string(smaps), exe) {
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, m.from, m.size, unix.MADV_DONTNEED); e != 0 {
			return e
		}
	}
	return nil
}

// mapping is a piece of the address space, in bytes.
type mapping struct{ from, size uintptr }

// unwritten reads /proc/self/smaps (proc_pid_smaps(5)) and returns the read-only
// mappings of the file exe without a page of their own. A mapping that is read-only now
// may have been written before: a dynamic linker relocates addresses in it first.
func unwritten(smaps, exe string) (out []mapping) {
	var m mapping
	var private bool
	end := func() {
		if m.size > 0 && !private {
			out = append(out, m)
		}
		m, private = mapping{}, true
	}
	for line := range strings.Lines(smaps) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"): // the head of a mapping
			end()
			from, to, _ := strings.Cut(f[0], "-")
			a, err1 := strconv.ParseUint(from, 16, strconv.IntSize)
			b, err2 := strconv.ParseUint(to, 16, strconv.IntSize)
			if len(f) == 6 && f[5] == exe && (f[1] == "r-xp" || f[1] == "r--p") && err1 == nil && err2 == nil && a < b {
				m = mapping{uintptr(a), uintptr(b - a)}
			}
		case len(f) >= 2 && f[0] == "Anonymous:": // a mapping without this line counts as written to
			private = f[1] != "0"
		case len(f) >= 2 && f[0] == "Swap:" && f[1] != "0":
			private = true
		}
	}
	end()
	return out
}
