package policies

import (
	"reflect"
	"testing"
	"time"

	"enclave/tui/screen"
	"enclave/wire"
)

var at = &screen.State{Now: time.Date(2026, 3, 27, 10, 0, 0, 0, time.UTC)}

// FuzzFields: what a field reads it writes so that it reads the same again.
func FuzzFields(f *testing.F) {
	for i, text := range []string{"Web", "a b,c", "a", "gone=10.0.0.0/8", "10.0.0.1 - 10.0.0.9, db.corp", "", `tcp/80,8000-8100 "the \"web\"" icmp any udp`, "mfa", "disk",
		"mon-fri 08:00-18:00 Europe/London; never 01:00-02:00 UTC; fri,mon 22:00-24:00 UTC", "2026-12-24 18:00 Europe/Berlin", "delete", `one\n\\n two`, "direct", "yes"} {
		f.Add(uint8(i), text)
	}
	f.Add(uint8(11), "8h")
	f.Add(uint8(9), "sat-mon 22:00-02:00 ../../etc/passwd")
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		one := &fields[int(which)%len(fields)]
		if one.choices != nil || len(text) > screen.MaxInput {
			return
		}
		var p, q wire.Policy
		if one.read(&p, text, at) != nil {
			return
		}
		written := one.write(&p, at)
		if err := one.read(&q, written, at); err != nil {
			t.Fatalf("%s: %q is written as %q, which does not read: %v", one.name, text, written, err)
		}
		if !reflect.DeepEqual(p, q) {
			t.Fatalf("%s: %q is written as %q\n%+v\n%+v", one.name, text, written, p, q)
		}
	})
}

// FuzzWeek: the windows of a drawn week draw the same week.
func FuzzWeek(f *testing.F) {
	f.Add([]byte{0, 255, 1, 0, 0, 255})
	f.Fuzz(func(t *testing.T, bits []byte) {
		var on week
		for i := range min(8*len(bits), 7*slots) {
			on[i/slots][i%slots] = bits[i/8]>>(i%8)&1 == 1
		}
		if again, exact := weekOf(on.windows("UTC")); again != on || !exact {
			t.Errorf("%v\n%v", on, again)
		}
	})
}

func TestTheWeekIsDrawnAsTheClockReads(t *testing.T) {
	on, exact := weekOf(wire.Windows{{Zone: "UTC", Days: []string{"sun"}, Start: "22:00", End: "02:00"}})
	if !exact || !on[6][44] || !on[6][47] || !on[0][0] || !on[0][3] || on[0][4] || on[6][43] {
		t.Errorf("past midnight on Sunday: %v", on)
	}
	if _, exact := weekOf(wire.Windows{{Zone: "UTC", Days: days, Start: "08:15", End: "10:00"}}); exact {
		t.Error("a quarter of an hour is exact")
	}
	if _, exact := weekOf(wire.Windows{{Zone: "UTC", Days: days, Start: "08:00", End: "10:00"}, {Zone: "Europe/London", Days: days, Start: "08:00", End: "10:00"}}); exact {
		t.Error("two zones are one")
	}
}
