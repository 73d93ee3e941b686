package agent

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// TestUnknownNamesAreRemembered: those of the overlay, within a bound, and nothing else.
func TestUnknownNamesAreRemembered(t *testing.T) {
	a, src := new(Agent), netip.MustParseAddr("100.64.0.9")
	a.view.Store(&view{directory: &directory{names: names.New("enclave", wire.DNS{}, nil)}})
	for _, host := range []string{"payroll", "Payroll.enclave.", "www.example.com", "", "no name.enclave", "\x1b[31m"} {
		a.unknownDial(host, wire.TCP, 443)
	}
	a.unknownDial("payroll.enclave", wire.TCP, 443)
	got := map[string]uint64{}
	for _, d := range a.unknown.report(src) {
		if got[d.Name] = d.Count; d.Src != src || d.Dst.Port() != 443 || d.Inbound || d.Proto != wire.TCP {
			t.Errorf("%+v", d)
		}
	}
	if len(got) != 2 || got["payroll"] != 1 || got["payroll.enclave"] != 2 {
		t.Errorf("dialled: %v", got)
	}
	now := time.Now().Add(time.Hour)
	for i := range 3 * maxUnknown {
		a.unknown.note(fmt.Sprintf("n%d", i), wire.Any, 0, now.Add(time.Duration(i)))
	}
	list := a.unknown.report(src)
	if len(list) != maxUnknown || list[0].Name != fmt.Sprintf("n%d", 3*maxUnknown-1) || list[maxUnknown-1].Name != fmt.Sprintf("n%d", 2*maxUnknown) {
		t.Errorf("%d are remembered, from %+v to %+v", len(list), list[0], list[len(list)-1])
	}
}
