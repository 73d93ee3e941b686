package policy

import (
	"testing"

	"enclave/wire"
)

// A change names the pairs that it may alter, and none between others.
func TestTouched(t *testing.T) {
	e := New()
	for i, tag := range []wire.Tag{"dev", "dev", "pod", "pod", "far", "far"} {
		e.PutSystem(sys("syst"+string(rune('a'+i)), byte(1+i), tag), epoch)
	}
	mustPut(t, e, direct("f", []wire.Tag{"far"}, []wire.Tag{"far"}), epoch)
	after := func(do func()) *Touched {
		touched := new(Touched)
		e.Record(touched)
		do()
		e.Record(nil)
		return touched
	}
	policy := after(func() { mustPut(t, e, direct("p", []wire.Tag{"dev"}, []wire.Tag{"pod"}), epoch) })
	want(t, "systems of a policy", policy.Systems(), ids{"systa", "systb", "systc", "systd"})
	want(t, "peers of a sender", policy.Peers("systb"), ids{"systc", "systd"})
	want(t, "peers of a receiver", policy.Peers("systc"), ids{"systa", "systb"})
	want(t, "peers of another", policy.Peers("syste"), ids(nil))
	tag := after(func() { e.PutTag(Tag{"pod", []string{"mfa"}}, epoch) })
	want(t, "trust of a receiver tag", tag.Peers("systa"), ids{"systc", "systd"})
	tag = after(func() { e.PutTag(Tag{"pod", nil}, epoch) })
	want(t, "and back", tag.Peers("systd"), ids{"systa", "systb"})
	mesh := after(func() { e.PutTag(Tag{"far", []string{"mfa"}}, epoch) })
	want(t, "trust of a mesh", mesh.Peers("syste"), ids{"systf"})
	gone := after(func() { e.DropSystem("systa", epoch) })
	want(t, "a system goes", gone.Systems(), ids{"systa", "systc", "systd"})
	want(t, "its peers", gone.Peers("systa"), ids{"systc", "systd"})
	want(t, "another receiver's peers", gone.Peers("systc"), ids{"systa"})
	e.PutSystem(sys("systz", 9, "dev"), epoch)
	want(t, "nothing is recorded any more", gone.Peers("systz"), ids(nil))
}
