package svid

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"enclave/wire"
)

// The kinds of identity. One kind never passes for another, whatever its name.
const (
	KindSystem  = "system"
	KindRelay   = "relay"
	KindControl = "control"
	// KindRun is a system that a sandbox made for one script. It has a system's ID,
	// address and place in policies, and says in its name that it is no machine.
	KindRun = "run"
)

// Sizes of a SPIFFE ID of ours; the standard allows 2048 bytes, we need far less.
const (
	maxOrgLen  = 64
	maxNameLen = 63
)

// ErrBadID is returned for text that is no SPIFFE ID of ours.
var ErrBadID = errors.New("want spiffe://<organisation>/<system|run|relay|control>/<name>")

// ID is a SPIFFE ID. The zero value names nobody.
type ID struct {
	Org  wire.OrgID
	Kind string // KindSystem, KindRun, KindRelay or KindControl
	Name string
}

// System returns the ID of a system.
func System(org wire.OrgID, id wire.SystemID) ID { return ID{org, KindSystem, string(id)} }

// Relay returns the ID of a relay.
func Relay(org wire.OrgID, id wire.RelayID) ID { return ID{org, KindRelay, string(id)} }

// Control returns the ID of the control plane.
func Control(org wire.OrgID) ID { return ID{org, KindControl, "main"} }

// Run returns the ID of a run by its system.
func Run(org wire.OrgID, id wire.SystemID) ID { return ID{org, KindRun, string(id)} }

// SystemID returns the system an ID names, a run's too, or "" for another kind.
func (id ID) SystemID() wire.SystemID {
	if id.Kind != KindSystem && id.Kind != KindRun {
		return ""
	}
	return wire.SystemID(id.Name)
}

// RelayID returns the relay an ID names, or "" for another kind.
func (id ID) RelayID() wire.RelayID {
	if id.Kind != KindRelay {
		return ""
	}
	return wire.RelayID(id.Name)
}

func (id ID) String() string { return "spiffe://" + string(id.Org) + "/" + id.Kind + "/" + id.Name }

// URL returns the ID as it stands in a certificate.
func (id ID) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: string(id.Org), Path: "/" + id.Kind + "/" + id.Name}
}

// Valid reports whether every part of the ID keeps its rule.
func (id ID) Valid() bool {
	if !(id.Kind == KindSystem || id.Kind == KindRun || id.Kind == KindRelay || id.Kind == KindControl) {
		return false
	}
	return len(id.Org) <= maxOrgLen && label(string(id.Org)) && len(id.Name) <= maxNameLen && label(id.Name)
}

// label accepts lower-case letters, digits and inner hyphens: what is left of a
// trust domain and of a path segment when every form with two spellings is removed.
func label(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// ParseID reads what String writes, and nothing else: no upper case, port, query,
// escape or trailing slash, so one identity has one spelling.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, "spiffe://")
	if !ok {
		return ID{}, fmt.Errorf("SPIFFE ID %.80q: %w", s, ErrBadID)
	}
	org, path, _ := strings.Cut(rest, "/")
	kind, name, _ := strings.Cut(path, "/")
	id := ID{wire.OrgID(org), kind, name}
	if !id.Valid() {
		return ID{}, fmt.Errorf("SPIFFE ID %.80q: %w", s, ErrBadID)
	}
	return id, nil
}
