package tools

import (
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"strings"
	"sync"
)

// Quotas bound what one run may keep by reference. Sizes are bytes.
type Quotas struct {
	Total    int64 // of all references
	One      int64 // of one
	LiftAt   int64 // strings of results from this size on are kept by reference
	Expanded int64 // of arguments after expansion
	Count    int   // references
	Depth    int   // nesting of arguments in which references are looked for
	Join     bool  // a reference may stand within other text
}

const mib = 1 << 20

// QuotasFor returns the quotas of a level; an unknown level has those of STRICT.
func QuotasFor(level string) Quotas {
	switch level {
	case "PERMISSIVE":
		return Quotas{1024 * mib, 256 * mib, 4 * mib, 512 * mib, 1000, 50, true}
	case "STANDARD":
		return Quotas{256 * mib, 64 * mib, 1 * mib, 128 * mib, 500, 20, true}
	case "SECURE":
		return Quotas{64 * mib, 16 * mib, 256 << 10, 32 * mib, 100, 10, false}
	}
	return Quotas{16 * mib, 4 * mib, 64 << 10, 8 * mib, 50, 5, false}
}

// refPattern is a reference: what a script may hand from one tool to another without
// ever holding the text.
var refPattern = regexp.MustCompile(`__REF_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}__`)

const refLen = len("__REF_xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx__")

// shelf is what the references of all runs hold together: those of a level are quotas
// of one run, and a server makes many.
type shelf struct {
	mu    sync.Mutex // guards what follows
	total int64
	of    map[string]int64 // a tenant
}

// Limits of a shelf, in bytes. One run at the highest level has the quota of its tenant.
const (
	maxShelf       = 2048 * mib
	maxTenantShelf = 1024 * mib
)

func (s *shelf) take(tenant string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total+n > maxShelf || s.of[tenant]+n > maxTenantShelf {
		return false
	}
	if s.of == nil {
		s.of = make(map[string]int64)
	}
	s.total += n
	s.of[tenant] += n
	return true
}

func (s *shelf) give(tenant string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == 0 {
		return
	}
	s.total -= n
	if s.of[tenant] -= n; s.of[tenant] == 0 {
		delete(s.of, tenant)
	}
}

// refs keeps the long strings of one run. They end with it.
type refs struct {
	quotas Quotas
	shelf  *shelf
	tenant string

	mu    sync.Mutex
	total int64
	held  map[string]string
}

// lift replaces the long strings of a result by references.
func (r *refs) lift(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if int64(len(v)) < r.quotas.LiftAt {
			return v, nil
		}
		return r.keep(v)
	case []any:
		for i := range v {
			one, err := r.lift(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = one
		}
	case map[string]any:
		for key := range v {
			one, err := r.lift(v[key])
			if err != nil {
				return nil, err
			}
			v[key] = one
		}
	}
	return v, nil
}

func (r *refs) keep(text string) (string, error) {
	n := int64(len(text))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case n > r.quotas.One:
		return "", failure(RefLimit, nil, "a result of %d bytes is more than a reference may hold (%d)", n, r.quotas.One)
	case r.total+n > r.quotas.Total:
		return "", failure(RefLimit, nil, "the references of this run would hold more than %d bytes", r.quotas.Total)
	case len(r.held) >= r.quotas.Count:
		return "", failure(RefLimit, nil, "this run has %d references, the most it may", r.quotas.Count)
	}
	if !r.shelf.take(r.tenant, n) {
		return "", failure(RefLimit, nil, "the references of all runs that go on hold as much as they may; try again later")
	}
	if r.held == nil {
		r.held = make(map[string]string)
	}
	id := "__REF_" + uuid4() + "__"
	r.held[id] = text
	r.total += n
	return id, nil
}

// expand puts the texts back in, after predicting how large the arguments will be.
func (r *refs) expand(args any, size int64) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	grown := size
	if err := r.predict(args, 0, &grown); err != nil {
		return nil, err
	}
	if grown == size {
		return args, nil
	}
	if grown > r.quotas.Expanded {
		return nil, failure(RefLimit, nil, "the arguments would have %d bytes with their references expanded, at most %d", grown, r.quotas.Expanded)
	}
	return r.replace(args), nil
}

func (r *refs) predict(v any, depth int, size *int64) error {
	switch v := v.(type) {
	case string:
		if len(v) < refLen || len(r.held) == 0 && len(v) > refLen {
			return nil
		}
		for _, at := range refPattern.FindAllStringIndex(v, -1) {
			text, ok := r.held[v[at[0]:at[1]]]
			switch {
			case !ok && len(v) == refLen:
				return failure(RefFailed, nil, "a reference is not of this run")
			case !ok:
				// Somebody else wrote a text that looks like one: it is text, so that who
				// writes what a script passes on cannot make its calls fail.
			case depth > r.quotas.Depth:
				return failure(RefLimit, nil, "a reference is nested deeper than %d", r.quotas.Depth)
			case len(v) != refLen && !r.quotas.Join:
				return failure(RefFailed, nil, "a reference cannot be joined with other text at this level")
			default:
				*size += int64(len(text) - refLen)
			}
		}
	case []any:
		for _, one := range v {
			if err := r.predict(one, depth+1, size); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, one := range v {
			if err := r.predict(one, depth+1, size); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *refs) replace(v any) any {
	switch v := v.(type) {
	case string:
		if !strings.Contains(v, "__REF_") {
			return v
		}
		return refPattern.ReplaceAllStringFunc(v, func(id string) string {
			if text, ok := r.held[id]; ok {
				return text
			}
			return id
		})
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = r.replace(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, one := range v {
			out[key] = r.replace(one)
		}
		return out
	}
	return v
}

// clear lets the texts go.
func (r *refs) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shelf.give(r.tenant, r.total)
	r.held, r.total = nil, 0
}

func uuid4() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
