package find

import (
	"net/netip"
	"strings"
	"testing"
)

func TestRank(t *testing.T) {
	laptop := &Thing{
		Names: []string{"laptop-dee", "dees-air"}, Texts: []string{"for the Office", "pending", "contractors"},
		IDs:   []string{"k3dee", "01JC3DEE9M"},
		Addrs: []netip.Addr{netip.MustParseAddr("100.64.3.17"), netip.MustParseAddr("fd7a:115c:dee:3::11")},
		Ports: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.7:5432"), netip.MustParseAddrPort("[fd00::dee]:443")},
	}
	other := &Thing{Names: []string{"contractor"}, Texts: []string{"connected"}, IDs: []string{"k3dee", "01JC3DEE9M"},
		Addrs: laptop.Addrs, Ports: laptop.Ports}
	for _, c := range []struct {
		thing  *Thing
		search string
		want   Rank
	}{
		{laptop, "", Text}, {laptop, "  ", Text},
		{laptop, "laptop-dee", Exact}, {laptop, "LAPTOP-dee", Exact},
		{laptop, "dee", Begins}, {laptop, "lap", Begins}, {laptop, "top", Within},
		{laptop, "office", Text}, {laptop, "the office", Text}, {laptop, "top office", Within}, {laptop, "pend", Text},
		{laptop, "top nowhere", None}, {laptop, "nowhere top", None},
		// The failure that this package is about: chance inside an identifier.
		{other, "dee", None}, {other, "3dee", None}, {other, "jc3", None}, {other, "fd", None}, {other, "115c", None},
		// From their beginning they are found.
		{other, "k3d", Opaque}, {other, "K3DEE", Opaque}, {other, "01jc", Opaque}, {other, "k3", None}, {other, "k3dee9", None},
		{other, "100.64.", Opaque}, {other, "100.64.3.17", Opaque}, {other, "64.3", None}, {other, "fd7a:115c", Opaque},
		{other, "100", None}, {other, ".17", None}, {other, ":", None}, {other, "..", None},
		// Ports are whole.
		{other, "5432", Opaque}, {other, ":443", Opaque}, {other, "443", Opaque}, {other, "44", None}, {other, "10.0.0.7:54", Opaque}, {other, "[fd00::dee]:443", Opaque}, {other, "fd00::", Opaque},
		{other, "contractor k3dee", Exact}, {other, "k3dee contractor", Exact},
	} {
		if got := c.thing.Rank(c.search); got != c.want {
			t.Errorf("%q in %v: rank %d, want %d", c.search, c.thing.Names, got, c.want)
		}
	}
}

// FuzzRank: an identifier that holds the search anywhere but at its beginning finds nothing.
func FuzzRank(f *testing.F) {
	f.Add("dee", "k3", "x")
	f.Add("a b", "c", "")
	f.Fuzz(func(t *testing.T, search, before, after string) {
		if strings.TrimSpace(search) == "" || before == "" || strings.HasPrefix(strings.ToLower(before+search+after), next1(search)) {
			return
		}
		thing := &Thing{IDs: []string{before + search + after}}
		if r := thing.Rank(search); r != None {
			t.Errorf("%q inside %q: rank %d", search, thing.IDs[0], r)
		}
	})
}

func next1(s string) string { w, _ := next(s); return w }
