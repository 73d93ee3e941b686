package names_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"enclave/wire"
	"enclave/wire/names"
)

// world is a random organisation: who carries which tags, who is connected to whom.
type world struct {
	book    names.Book
	ids     []wire.SystemID
	host    map[wire.SystemID]string
	tags    map[wire.SystemID][]wire.Tag
	connect map[[2]wire.SystemID]bool
}

func randomWorld(r *rand.Rand) *world {
	w := &world{book: names.Book{Base: "enclave"}, host: map[wire.SystemID]string{}, tags: map[wire.SystemID][]wire.Tag{}, connect: map[[2]wire.SystemID]bool{}}
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	tag := func() wire.Tag { return wire.Tag(pick("a", "b", "c")) }
	for i := range 6 {
		id := wire.SystemID(strings.Repeat(string(rune('a'+i)), 5))
		w.ids = append(w.ids, id)
		w.host[id] = pick("web", "db", "x", "y")
		for range r.IntN(3) {
			if t := tag(); !slices.Contains(w.tags[id], t) {
				w.tags[id] = append(w.tags[id], t)
			}
		}
	}
	for _, a := range w.ids {
		for _, b := range w.ids {
			if a < b && r.IntN(2) == 0 {
				w.connect[[2]wire.SystemID{a, b}], w.connect[[2]wire.SystemID{b, a}] = true, true
			}
		}
	}
	for _, name := range []string{"corp", "x.corp", "test", "y.enclave"} {
		if r.IntN(2) == 0 {
			z := wire.Zone{Name: name}
			if r.IntN(2) == 0 {
				z.AutoTags = []wire.Tag{tag()}
			}
			w.book.Zones = append(w.book.Zones, z)
		}
	}
	seen := map[string]bool{}
	for range r.IntN(10) {
		rec := wire.Record{Name: pick("", "", "*.") + pick("", "web.", "x.", "y.x.", "db.") + pick("corp", "test", "enclave")}
		if r.IntN(3) > 0 {
			rec.Tags = []wire.Tag{tag()}
		}
		if rec.Tags == nil || r.IntN(3) == 0 {
			rec.Systems = []wire.SystemID{w.ids[r.IntN(len(w.ids))]}
		}
		if !seen[rec.Name] && len(w.book.CheckNewRecord(&rec)) == 0 {
			seen[rec.Name] = true
			w.book.Records = append(w.book.Records, rec)
		}
	}
	return w
}

// naive answers by the sentences of the semantics, for one asker, with loops alone.
func (w *world) naive(asker wire.SystemID, name string) (kind string, found []wire.SystemID) {
	zones := []string{w.book.Base}
	for _, z := range w.book.Zones {
		zones = append(zones, z.Name)
	}
	owner := func(name string) (own string) {
		for _, z := range zones {
			if (name == z || strings.HasSuffix(name, "."+z)) && len(z) > len(own) {
				own = z
			}
		}
		return own
	}
	zone := owner(name)
	if zone == "" {
		return "outside", nil
	}
	connected := func(ids []wire.SystemID) (out []wire.SystemID) {
		for _, id := range ids {
			if w.connect[[2]wire.SystemID{asker, id}] && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
		return out
	}
	// every name that exists for the asker, with whom it stands for
	book := map[string][]wire.SystemID{}
	manual := map[string]bool{}
	for _, r := range w.book.Records {
		manual[r.Name] = true
		ids := slices.Clone(r.Systems)
		for _, id := range w.ids {
			if slices.ContainsFunc(r.Tags, func(t wire.Tag) bool { return slices.Contains(w.tags[id], t) }) {
				ids = append(ids, id)
			}
		}
		book[r.Name] = connected(ids)
	}
	for _, id := range w.ids {
		book[string(id)+".id.enclave"] = connected([]wire.SystemID{id})
		for _, z := range append([]wire.Zone{{Name: "enclave"}}, w.book.Zones...) {
			auto := w.host[id] + "." + z.Name
			publishes := z.Name == "enclave" || slices.ContainsFunc(z.AutoTags, func(t wire.Tag) bool { return slices.Contains(w.tags[id], t) })
			if publishes && !manual[auto] && owner(auto) == z.Name {
				book[auto] = append(book[auto], connected([]wire.SystemID{id})...)
			}
		}
	}
	if len(book[name]) > 0 {
		return "found", book[name]
	}
	exists := slices.Contains(zones, name)
	for other, ids := range book {
		if len(ids) > 0 && !strings.HasPrefix(other, "*.") && strings.HasSuffix(other, "."+name) {
			exists = true
		}
	}
	if slices.Contains(zones, name) || !exists { // what is above other names is there, and no wildcard
		for rest := name; rest != zone && strings.Contains(rest, "."); {
			_, rest, _ = strings.Cut(rest, ".")
			if ids := book["*."+rest]; len(ids) > 0 {
				return "found", ids
			}
		}
	}
	if exists {
		return "empty", nil
	}
	return "missing", nil
}

// TestNoAnswerForTheWrongAsker compares every answer of random worlds with the naive
// model: the same systems, and none that the asker is not connected to.
func TestNoAnswerForTheWrongAsker(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	questions, wrong := 0, 0
	for range 1500 {
		w := randomWorld(r)
		table := names.Compile(&w.book)
		for _, asker := range w.ids {
			var peers []wire.Peer
			for _, id := range w.ids {
				if w.connect[[2]wire.SystemID{asker, id}] {
					p := peer(string(id))
					p.Name = w.host[id]
					p.Names, _ = table.Of(id, p.Name, w.tags[id])
					peers = append(peers, p)
				}
			}
			v := names.New(w.book.Base, wire.DNS{Zones: table.Ours}, peers)
			for _, name := range []string{"web.enclave", "y.enclave", "x.y.enclave", "enclave", "aaaaa.id.enclave", "id.enclave", "corp", "x.corp", "web.corp", "web.x.corp", "y.x.corp",
				"q.x.corp", "q.corp", "a.b.corp", "test", "db.test", "x.test", "q.test", "web.org", "org"} {
				a := v.Lookup([]byte(name), noon)
				var got []wire.SystemID
				for _, p := range a.In(noon) {
					got = append(got, p.ID)
					if !w.connect[[2]wire.SystemID{asker, p.ID}] {
						wrong++
					}
				}
				kind, want := w.naive(asker, name)
				if a.Kind.String() != kind || !slices.Equal(sorted(got), sorted(want)) {
					t.Fatalf("%s asks for %s: %s %v, the model says %s %v\n%+v", asker, name, a.Kind, got, kind, want, w)
				}
				questions++
			}
		}
	}
	t.Logf("%d questions, wrong-asker answers %d", questions, wrong)
}
