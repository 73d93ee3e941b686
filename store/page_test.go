package store

import (
	"fmt"
	"reflect"
	"testing"

	"enclave/wire"
)

// BenchmarkPolicies10000 lists 10,000 policies in pages of 200, beside the same list read
// at once: the ratio is what the pages cost.
func BenchmarkPolicies10000(b *testing.B) {
	s := made(b, stateDir(b), InitParams{})
	_, err := s.change(b.Context(), "fill", by(start), func(w *writing) error {
		for i := range 10_000 {
			doc := wire.Policy{ID: wire.PolicyID(wire.NewID(keyIDLen)), Name: fmt.Sprint("p", i), Kind: wire.Direct, Enabled: true, SenderTags: []wire.Tag{"a"},
				ReceiverTags: []wire.Tag{"b"}, ACLs: []wire.ACL{{Proto: wire.TCP, Ports: wire.Ports{{Lo: 22, Hi: 22}}}}}
			if err := w.addPolicy(b.Context(), &doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("pages", func(b *testing.B) {
		for b.Loop() {
			var last Policy
			for {
				list, err := s.PoliciesAfter(b.Context(), last.CreatedAt, last.ID, 200)
				if err != nil {
					b.Fatal(err)
				}
				if len(list) == 0 {
					break
				}
				last = list[len(list)-1]
			}
		}
	})
	b.Run("at once", func(b *testing.B) {
		for b.Loop() {
			if list, err := s.Policies(b.Context()); err != nil || len(list) != 10_000 {
				b.Fatal(len(list), err)
			}
		}
	})
}

// TestSystemsAfter: pages of systems are the list, each with what belongs to it, and a
// page does not read what all have.
func TestSystemsAfter(t *testing.T) {
	s := made(t, stateDir(t), InitParams{})
	fill(t, s, 300)
	all, err := s.Systems(t.Context())
	if err != nil || len(all) != 300 {
		t.Fatal(len(all), err)
	}
	var got []System
	for last := wire.SystemID(""); ; last = got[len(got)-1].ID {
		list, err := s.SystemsAfter(t.Context(), last, 70)
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, list...); len(list) == 0 {
			break
		}
	}
	if !reflect.DeepEqual(got, all) || len(got[299].Tags) != 2 {
		t.Errorf("%d systems in pages are not the %d at once", len(got), len(all))
	}
	page := testing.AllocsPerRun(5, func() {
		if _, err := s.SystemsAfter(t.Context(), all[9].ID, 1); err != nil {
			t.Fatal(err)
		}
	})
	if page > float64(len(all)) {
		t.Errorf("one system takes %.0f allocations", page)
	}
}
