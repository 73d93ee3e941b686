package wire_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"enclave/wire"
)

// TestWhatHasNoNameIsNotNamed: numbers outside of the tables are neither written nor shown
// as one of those inside.
func TestWhatHasNoNameIsNotNamed(t *testing.T) {
	for p, want := range map[wire.Proto]string{0: "proto(0)", wire.Any: "any", wire.ICMP: "icmp", wire.ICMP + 1: "proto(5)", 255: "proto(255)"} {
		text, err := p.MarshalText()
		if named := !strings.HasPrefix(want, "proto("); p.String() != want || (err == nil) != named || named && string(text) != want {
			t.Errorf("%d: %s, written %q, %v; want %s", uint8(p), p, text, err, want)
		}
	}
	if got := (wire.Problem{Message: "is empty"}).Error(); got != "is empty" {
		t.Errorf("a problem of the whole document reads %q", got)
	}
}

func TestNoPortsAreAllPorts(t *testing.T) {
	if !wire.Ports(nil).Contains(1) || (wire.Ports{}).Contains(1) || !(wire.Ports{{Lo: 80, Hi: 81}}).Contains(81) || (wire.Ports{{Lo: 80, Hi: 81}}).Contains(82) {
		t.Error("nil allows every port, an empty list none, a range both its ends")
	}
}

func TestNullClearsHours(t *testing.T) {
	w := wire.Windows{{Zone: "UTC"}}
	if err := json.Unmarshal([]byte("null"), &w); err != nil || w != nil {
		t.Errorf("null leaves %v, %v", w, err)
	}
}

func TestRoutesHaveOneSize(t *testing.T) {
	pre := netip.MustParsePrefix
	for _, c := range []struct {
		subnet, as netip.Prefix
		ok         bool
	}{
		{pre("192.168.1.0/24"), netip.Prefix{}, true},
		{pre("192.168.1.0/24"), pre("10.9.1.0/24"), true},
		{pre("192.168.1.0/24"), pre("10.9.0.0/16"), false},
		{pre("192.168.1.0/24"), pre("fd00::/24"), false},
		{pre("192.168.1.1/24"), netip.Prefix{}, false},
		{pre("192.168.1.0/24"), pre("10.9.1.1/24"), false},
		{netip.Prefix{}, netip.Prefix{}, false},
	} {
		if err := (wire.Route{Subnet: c.subnet, As: c.as}).Check(); (err == nil) != c.ok {
			t.Errorf("%s as %s: %v", c.subnet, c.as, err)
		}
	}
	r := wire.Route{Subnet: pre("192.168.16.0/20"), As: pre("10.9.32.0/20")}
	shown, plain := netip.MustParseAddr("10.9.45.7"), wire.Route{Subnet: r.Subnet}
	if got := r.Real(shown); got != netip.MustParseAddr("192.168.29.7") || plain.Real(got) != got || r.Shown() != r.As || plain.Shown() != plain.Subnet {
		t.Errorf("%s is %s", shown, got)
	}
}
