// Package estate draws large worlds for benchmarks: 50 tags and as many systems and
// policies as asked for, the same ones each time.
//
// Everybody carries one of two broad tags, and up to two more of 45 teams of 40 and 3
// services of 4. All but four policies name one or two teams on either side; a third
// have hours. Teams and services keep their size however large the organisation is, as
// teams do: with 50 tags spread evenly, 50,000 systems would be billions of pairs. It
// refuses to be a world of anybody in particular. What is measured in it: docs/bench.md.
package estate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"enclave/wire"
)

const (
	teams, teamSize       = 45, 40
	services, serviceSize = 3, 4
)

// Broad is how many policies come first that let everybody of a broad tag reach a service.
const Broad = 4

// Workday is an instant at which every policy counts.
func Workday() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

// System is a system of the estate, approved and enabled.
type System struct {
	ID   wire.SystemID
	Addr netip.Addr
	Tags []wire.Tag
}

// New draws an estate.
func New(systems, policies int) (ss []System, ps []wire.Policy) {
	r := rand.New(rand.NewPCG(7, 7))
	team := func() wire.Tag { return wire.Tag(fmt.Sprintf("team%02d", r.IntN(teams))) }
	some := func() []wire.Tag {
		out := []wire.Tag{team()}
		if other := team(); r.IntN(2) == 0 && other != out[0] {
			out = append(out, other)
		}
		return out
	}
	for i := range systems {
		broad := wire.Tag("staff")
		if i%5 >= 3 {
			broad = "fleet"
		}
		addr := netip.AddrFrom4([4]byte{100, 64 + byte(i>>16), byte(i >> 8), byte(i)})
		ss = append(ss, System{wire.SystemID(fmt.Sprintf("%05d", i)), addr, []wire.Tag{broad}})
	}
	order := r.Perm(systems)
	for k := range teams*teamSize + services*serviceSize {
		name := wire.Tag(fmt.Sprintf("team%02d", k/teamSize))
		if k >= teams*teamSize {
			name = wire.Tag(fmt.Sprintf("service%d", k%services))
		}
		if s := &ss[order[k%systems]]; len(s.Tags) < 3 && !slices.Contains(s.Tags, name) {
			s.Tags = append(s.Tags, name)
		}
	}
	for i := range policies {
		p := wire.Policy{
			ID: wire.PolicyID(fmt.Sprintf("p%04d", i)), Name: fmt.Sprintf("policy %d", i), Kind: wire.Direct, Enabled: true,
			SenderTags: some(), ReceiverTags: some(),
			ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}, {Lo: 443, Hi: 443}}}, {Proto: wire.ICMP}},
		}
		if i%3 == 0 {
			p.ActiveHours = wire.Windows{{Zone: "Europe/London", Days: []string{"mon", "tue", "wed", "thu", "fri"}, Start: "08:00", End: "18:00"}}
		}
		if i < Broad {
			p.SenderTags = []wire.Tag{[]wire.Tag{"staff", "fleet"}[i%2]}
			p.ReceiverTags = []wire.Tag{wire.Tag(fmt.Sprintf("service%d", i%services))}
		}
		ps = append(ps, p)
	}
	return ss, ps
}
