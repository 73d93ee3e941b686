package wire

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSubscriberOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:443":                "192.0.2.7",
		"192.0.2.7":                    "192.0.2.7",
		"[::ffff:192.0.2.7]:443":       "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:443":   "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1":         "2001:db8:1:2::/64",
		"[2001:db8:1:3::1]:443":        "2001:db8:1:3::/64",
		"[fe80::1%eth0]:443":           "fe80::/64",
		"[fe80::2%eth1]:443":           "fe80::/64",
		"pipe":                         "pipe",
		"":                             "",
		"example.com:443":              "example.com",
		"[2001:db8:1:2:3:4:5:6%z]:443": "2001:db8:1:2::/64",
	} {
		if got := SubscriberOf(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	if p := Subscriber(netip.Addr{}); p.IsValid() {
		t.Errorf("no address: %s", p)
	}
}

func FuzzSubscriberOf(f *testing.F) {
	f.Add("192.0.2.7:443")
	f.Add("[2001:db8::1%eth0]:443")
	f.Add("::ffff:192.0.2.7")
	f.Fuzz(func(t *testing.T, remote string) {
		got := SubscriberOf(remote)
		if len(got) > len(remote)+len("::/64") {
			t.Errorf("%q became %q", remote, got)
		}
		if a, err := netip.ParseAddr(remote); err == nil && !strings.HasPrefix(got, Subscriber(a).Addr().String()) {
			t.Errorf("%q became %q", remote, got)
		}
	})
}
