package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"

	"enclave/sandbox/tools"
)

// bearer is a token that is accepted, and the life of everything it opens: runs and
// streams end with held. It does not change.
type bearer struct {
	token
	held context.Context // ends when the token is accepted no more
	end  context.CancelFunc
}

// bearers are the tokens that a server accepts. A set does not change; another takes its
// place.
type bearers []*bearer

// whose returns the bearer of a header, or nil. Every token is compared, in constant time:
// the answer's time says nothing about any of them.
func (b bearers) whose(header string, now time.Time) (found *bearer) {
	scheme, text, _ := strings.Cut(header, " ")
	ok := strings.EqualFold(scheme, "Bearer") // RFC 9110, section 11.1
	sum := sha256.Sum256([]byte(strings.TrimLeft(text, " ")))
	for _, one := range b {
		if subtle.ConstantTimeCompare(sum[:], one.sum[:]) == 1 && ok && one.counts(now) {
			found = one
		}
	}
	return found
}

// identity is what a token has to keep to be the same: a token that became somebody
// else's is another.
type identity struct {
	sum [32]byte
	who tools.Caller
}

// replaced is the set that takes this one's place when a file says what t does, who of
// this one is gone, and what that changes; nil for nothing. With less nobody gets more than
// before. It ends nobody: the caller does, once the new set is in force.
func (b bearers) replaced(t []token, now time.Time, less bool) (next, gone bearers, change *tools.TokenChange) {
	have := make(map[identity]*bearer, len(b))
	for _, one := range b {
		have[identity{one.sum, one.who}] = one
	}
	var added, removed []string
	prolonged := 0
	for _, one := range t {
		key := identity{one.sum, one.who}
		old := have[key]
		switch {
		case !one.counts(now):
		case old != nil:
			delete(have, key)
			if later(one.until, old.until) {
				if less {
					one.until = old.until
				} else {
					prolonged++
					added = append(added, name(one.who))
				}
			}
			next = append(next, &bearer{one, old.held, old.end})
		case !less:
			held, end := context.WithCancel(context.Background())
			next = append(next, &bearer{one, held, end})
			added = append(added, name(one.who))
		}
	}
	for _, one := range b {
		if have[identity{one.sum, one.who}] != nil {
			gone = append(gone, one)
			removed = append(removed, name(one.who))
		}
	}
	if len(added)+len(removed) > 0 {
		change = &tools.TokenChange{Held: len(next), Added: len(added) - prolonged, Removed: len(removed), Prolonged: prolonged,
			AddedOf: names(added), RemovedOf: names(removed)}
	}
	return next, gone, change
}

// later reports whether one end is after another; none is the latest.
func later(one, other time.Time) bool {
	return !other.IsZero() && (one.IsZero() || one.After(other))
}

// tokens are those of the set.
func (b bearers) tokens() []token {
	out := make([]token, len(b))
	for i, one := range b {
		out[i] = one.token
	}
	return out
}

func name(who tools.Caller) string { return who.User + "@" + who.Tenant }

// maxNames bounds a record: more change at once only where a file is made anew.
const maxNames = 100

func names(list []string) []string {
	slices.Sort(list)
	list = slices.Compact(list)
	return list[:min(len(list), maxNames)]
}
