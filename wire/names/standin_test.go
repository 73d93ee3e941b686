package names

import (
	"testing"
	"time"

	"enclave/wire"
)

// TestANameBehindAGateway is there for whom a grant names it, while that counts; what is
// ours is ours, and a zone that is forwarded gives way to a name that a policy names.
func TestANameBehindAGateway(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	gate := wire.Peer{ID: "gate1", Name: "gate", Forwards: []wire.Forward{{Zone: "far.test"}}, Grants: []wire.Grant{
		{From: "me001", To: "gate1", Names: []string{"a.test", "b.far.test", "c.ours.test"}, NotAfter: now.Add(time.Hour)},
		{From: "gate1", To: "me001", Names: []string{"behind-me.test"}},
	}}
	v := New("enclave", wire.DNS{Zones: []string{"ours.test"}}, []wire.Peer{gate})
	for name, want := range map[string]Kind{
		"a.test": Behind, "b.far.test": Behind, "d.far.test": Forwarded, "c.ours.test": Missing, "x.a.test": Outside, "behind-me.test": Outside,
	} {
		if a := v.Lookup([]byte(name), now); a.Kind != want {
			t.Errorf("%s is %s, want %s", name, a.Kind, want)
		}
	}
	if a := v.Lookup([]byte("a.test"), now.Add(time.Hour)); a.Kind != Outside {
		t.Errorf("after the grant a.test is %s", a.Kind)
	}
	if len(v.Leading("a.test", now)) != 1 || v.Leading("a.test", now.Add(time.Hour)) != nil {
		t.Error("the wrong gateways lead to a.test")
	}
	if n := testing.AllocsPerRun(100, func() { v.Lookup([]byte("a.test"), now) }); n != 0 {
		t.Errorf("a lookup allocates %v times", n)
	}
	if a, b := StandIn("a.test"), StandIn("b.test"); a == b || !StandIns().Contains(a) || a != StandIn("a.test") {
		t.Errorf("stand-ins %s and %s", a, b)
	}
}
