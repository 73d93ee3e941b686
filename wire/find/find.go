// Package find says whether a search finds a thing, and how well: one rule for the API's
// lists and the terminal UI's.
//
// A thing has names and texts, that people wrote and remember a piece of, and identifiers
// that nobody chose: IDs, addresses, keys, fingerprints. A piece of those is chance, and
// chance finds what was not meant: "dee" is in every sixtieth IPv6 address. So names and
// texts match anywhere, identifiers from their beginning only (docs/decisions/0193).
package find

import (
	"net/netip"
	"strings"
)

// MinPrefix is how many characters of an identifier find it: of 32 letters and digits,
// two would still find every thousandth by chance.
const MinPrefix = 3

// Rank is how well a thing was found: higher is better.
type Rank uint8

// The ranks. What is called so comes before what only says so.
const (
	None   Rank = iota
	Opaque      // an identifier begins so
	Text        // a text contains it
	Within      // a name contains it
	Begins      // a name begins so
	Exact       // it is the name
)

// Thing is what may be found.
type Thing struct {
	Names []string // what it is called
	Texts []string // what else people say of it: notes, tags, states
	IDs   []string // what was drawn or derived
	Addrs []netip.Addr
	Ports []netip.AddrPort // addresses that are found by their port, too: 5432, :5432
}

// Rank reports how well search finds t: every word of it must be found, and the one that
// is found best counts. An empty search finds everything alike.
func (t *Thing) Rank(search string) Rank {
	best := Text
	for i, word := 0, ""; ; i++ {
		if word, search = next(search); word == "" {
			return best
		}
		r := t.word(word)
		if r == None {
			return None
		}
		if i == 0 || r > best {
			best = r
		}
	}
}

// Found reports whether search finds t at all.
func (t *Thing) Found(search string) bool { return t.Rank(search) != None }

// next cuts the first word off s, in lower case.
func next(s string) (word, rest string) {
	s = strings.TrimSpace(s)
	if at := strings.IndexAny(s, " \t"); at >= 0 {
		return strings.ToLower(s[:at]), s[at:]
	}
	return strings.ToLower(s), ""
}

func (t *Thing) word(word string) (best Rank) {
	for _, name := range t.Names {
		switch name = strings.ToLower(name); {
		case name == word:
			return Exact
		case strings.HasPrefix(name, word):
			best = max(best, Begins)
		case strings.Contains(name, word):
			best = max(best, Within)
		}
	}
	for _, text := range t.Texts {
		if best != None {
			return best
		}
		if strings.Contains(strings.ToLower(text), word) {
			return Text
		}
	}
	if best == None && t.identified(word) {
		return Opaque
	}
	return best
}

func (t *Thing) identified(word string) bool {
	if len(word) >= MinPrefix {
		for _, id := range t.IDs {
			if strings.HasPrefix(strings.ToLower(id), word) {
				return true
			}
		}
	}
	if port, ok := strings.CutPrefix(word, ":"); ok || digits(word) {
		for _, a := range t.Ports {
			if p := a.String(); p[strings.LastIndexByte(p, ':')+1:] == port {
				return true
			}
		}
	}
	if !strings.ContainsAny(word, ".:") || len(word) < MinPrefix {
		return false // letters alone are no piece of an address, "dee" neither
	}
	for _, a := range t.Addrs {
		if strings.HasPrefix(a.String(), word) {
			return true
		}
	}
	for _, a := range t.Ports {
		if strings.HasPrefix(a.String(), word) || strings.HasPrefix(a.Addr().String(), word) {
			return true
		}
	}
	return false
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
