// Package api holds the documents of the administration API under /api/v1: what the
// server answers and what its clients (the CLI, the TUI, other programs) send.
//
// They are views, made for the reader: never rows, never secrets. The one secret
// that crosses is an enrolment key's, once, in the answer that creates it. The
// server publishes the same shapes as OpenAPI 3.1 at /api/v1/openapi.json.
package api

import (
	"encoding/json"
	"net/netip"
	"time"

	"enclave/wire"
)

// Problem is an error answer (RFC 9457) with a stable code.
type Problem struct {
	Type     string         `json:"type"`
	Title    string         `json:"title"`
	Status   int            `json:"status"`
	Detail   string         `json:"detail,omitempty"`
	Code     string         `json:"code"`
	Hint     string         `json:"hint,omitempty"`
	Problems []wire.Problem `json:"problems,omitempty"` // every mistake in the document, with its path
}

func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// The codes of Problem. They are a contract: scripts compare them.
const (
	CodeBadRequest   = "bad_request"
	CodeInvalid      = "invalid" // the document has mistakes; see Problems
	CodeUnauthorised = "unauthorised"
	CodeForbidden    = "forbidden"
	CodeNotFound     = "not_found"
	CodeAmbiguous    = "ambiguous" // the name fits several
	CodeConflict     = "conflict"  // exists already, or not possible in this state
	CodeStale        = "stale"     // If-Match names an older state
	CodeTooLarge     = "too_large"
	CodeTryAgain     = "try_again"
	CodeInternal     = "internal"
	CodeClockSkew    = "clock_skew"
	CodeKeyUnknown   = "key_unknown" // wrong, disabled or deleted: not told apart
	CodeKeyExpired   = "key_expired"
	CodeKeyUsedUp    = "key_used_up"
	CodeKeyElsewhere = "key_elsewhere" // it does not enrol from the address of this machine
	CodeSealed       = "sealed"        // the state is locked: nothing is served until it is unlocked
	CodeDiskFull     = "disk_full"     // nothing was changed
	CodeDiskFailed   = "disk_failed"   // the server stops
	CodeDamaged      = "damaged"       // the state is; the server stops
	CodeWrongKey     = "wrong_identity"
	CodeTestFailed   = "test_failed" // the change would break tests; Problems names them
)

// System is a system as an administrator sees it.
type System struct {
	ID          wire.SystemID    `json:"id"`
	Name        string           `json:"name"`
	State       wire.SystemState `json:"state"`
	Kind        string           `json:"kind"` // general, ephemeral, run
	Tags        []wire.Tag       `json:"tags"`
	IPv4        netip.Addr       `json:"ipv4"`
	IPv6        netip.Addr       `json:"ipv6"`
	Host        wire.Host        `json:"host"`
	Key         wire.KeyID       `json:"key,omitempty"` // the enrolment key it used
	NAT         string           `json:"nat,omitempty"`
	Relay       wire.RelayID     `json:"relay,omitempty"`
	SeenFrom    string           `json:"seen_from,omitempty"` // address its control connection comes from
	Trust       []TrustMark      `json:"trust,omitempty"`
	Adds        []wire.SystemID  `json:"adds,omitempty"`   // systems it has added; counts while both are untagged
	Routes      []wire.Route     `json:"routes,omitempty"` // subnets it may carry as a gateway
	Applied     wire.Revision    `json:"applied"`          // revision it has acknowledged
	EnrolledAt  time.Time        `json:"enrolled_at"`
	ConnectedAt *time.Time       `json:"connected_at,omitempty"`
	LastSeen    *time.Time       `json:"last_seen,omitempty"`
	ExpiresAt   *time.Time       `json:"expires_at,omitempty"`
	// ExpiresLocal is what was meant by ExpiresAt, when that was a wall clock.
	ExpiresLocal *wire.LocalTime   `json:"expires_local,omitempty"`
	ExpiryAction wire.ExpiryAction `json:"expiry_action,omitempty"`
	Notes        string            `json:"notes,omitempty"`
	Version      wire.Revision     `json:"version"` // for If-Match
}

// WhoAmI is whose token a request carried.
type WhoAmI struct {
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"` // what it may do
}

// SystemUpdate changes a system; what is nil stays. Never, ExpiresAt and ExpiresLocal
// exclude each other.
type SystemUpdate struct {
	Name         *string
	Notes        *string
	Never        bool // takes the expiry away
	ExpiresAt    *time.Time
	ExpiresLocal *wire.LocalTime
	ExpiryAction wire.ExpiryAction
}

// MarshalJSON leaves out what stays, which null would not.
func (u SystemUpdate) MarshalJSON() ([]byte, error) {
	m := make(map[string]any)
	if u.Name != nil {
		m["name"] = *u.Name
	}
	if u.Notes != nil {
		m["notes"] = *u.Notes
	}
	switch {
	case u.Never:
		m["expires_at"] = nil
	case u.ExpiresLocal != nil:
		m["expires_local"] = u.ExpiresLocal
	case u.ExpiresAt != nil:
		m["expires_at"] = u.ExpiresAt
	}
	if u.ExpiryAction != "" {
		m["expiry_action"] = u.ExpiryAction
	}
	return json.Marshal(m)
}

// TrustMark says that a system meets a requirement until an instant.
type TrustMark struct {
	Requirement string    `json:"requirement"`
	Until       time.Time `json:"until,omitzero"`
}

// Tag is a tag with how often it is used.
type Tag struct {
	Name     wire.Tag `json:"name"`
	Systems  int      `json:"systems"`
	Keys     int      `json:"keys"`
	Policies int      `json:"policies"`
	Explicit bool     `json:"explicit"` // stays when unused
	Notes    string   `json:"notes,omitempty"`
	// Trust lists requirements a system must meet for this tag to count.
	Trust []string `json:"trust,omitempty"`
}

// Key is an enrolment key without its secret.
type Key struct {
	ID        wire.KeyID `json:"id"`
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`     // general, ephemeral, relay
	Approval  string     `json:"approval"` // manual, automatic
	Uses      *int       `json:"uses"`     // left; null is unlimited
	Used      int        `json:"used"`
	Tags      []wire.Tag `json:"tags"`
	Enabled   bool       `json:"enabled"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// ExpiresLocal is what was meant by ExpiresAt, when that was a wall clock.
	ExpiresLocal *wire.LocalTime   `json:"expires_local,omitempty"`
	ExpiryAction wire.ExpiryAction `json:"expiry_action,omitempty"`
	// Sources are the ranges of addresses from which it enrols; none is everywhere.
	Sources []string `json:"sources,omitempty"`
	// Retention is how long an ephemeral system stays after it disconnects, in seconds.
	Retention int       `json:"retention_seconds,omitempty"`
	CreatedAt time.Time `json:"created_at"`
}

// KeyCreate asks for a new enrolment key.
type KeyCreate struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind,omitempty"`     // general (default), ephemeral, relay
	Approval  string     `json:"approval,omitempty"` // manual (default for general), automatic
	Uses      *int       `json:"uses,omitempty"`
	Tags      []wire.Tag `json:"tags,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// ExpiresLocal, in place of ExpiresAt, is a time on the wall clock of a zone.
	ExpiresLocal *wire.LocalTime   `json:"expires_local,omitempty"`
	ExpiryAction wire.ExpiryAction `json:"expiry_action,omitempty"` // disable (default), delete
	// Sources are addresses, prefixes and ranges from which it enrols; none is everywhere.
	Sources   []string `json:"sources,omitempty"`
	Retention int      `json:"retention_seconds,omitempty"`
}

// KeyCreated carries the secret, the only time it is shown.
type KeyCreated struct {
	Key
	Secret string `json:"secret"`
}

// Token is a token for the API without its secret.
type Token struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// TokenCreate asks for a new token.
type TokenCreate struct {
	Name      string     `json:"name"`
	Scopes    []string   `json:"scopes"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// TokenCreated carries the secret, the only time it is shown.
type TokenCreated struct {
	Token
	Secret string `json:"secret"`
}

// Policy is a policy with its derived state.
type Policy struct {
	wire.Policy
	State   string        `json:"state"` // active, disabled, expired, outside hours, inactive: no rules
	Version wire.Revision `json:"version"`
	// Warnings name what is allowed and probably not meant, such as a tag that no system
	// carries. A change answers with them.
	Warnings []string `json:"warnings,omitempty"`
}

// Changed answers every change: the revision it made and how many connected
// systems have to apply it.
type Changed struct {
	Revision wire.Revision `json:"revision"`
	Affected int           `json:"affected"`
	// Warnings name what the change leaves open and was probably meant to end.
	Warnings []string `json:"warnings,omitempty"`
}

// RevisionStatus is where the organisation is, and who has followed.
type RevisionStatus struct {
	Revision wire.Revision   `json:"revision"`
	At       time.Time       `json:"at"`
	Applied  bool            `json:"applied"`           // every affected connected system has acknowledged it
	Waiting  []wire.SystemID `json:"waiting,omitempty"` // those that have not
	// Away is how many systems are not connected and may act, among themselves, on a map
	// from before it; AwayUntil is when none of them does any more, absent for never.
	Away      int        `json:"away,omitempty"`
	AwayUntil *time.Time `json:"away_until,omitempty"`
	// Warnings name what is stored and cannot be served as it stands.
	Warnings []string `json:"warnings,omitempty"`
	// ConfirmBy is when the last change reverts unless it is confirmed.
	ConfirmBy *time.Time `json:"confirm_by,omitempty"`
}

// Activity is one line of the activity log.
type Activity struct {
	Seq      int64         `json:"seq"`
	At       time.Time     `json:"at"`
	Actor    string        `json:"actor"`
	Action   string        `json:"action"` // policy.create, system.approve, key.use
	Object   string        `json:"object"`
	Revision wire.Revision `json:"revision,omitempty"`
	Detail   string        `json:"detail,omitempty"`
}

// Relay is a relay as an administrator sees it.
type Relay struct {
	wire.Relay
	Name       string    `json:"name"` // as it enrolled; two may be called the same
	EnrolledAt time.Time `json:"enrolled_at"`
}

// Page is one page of a list. Next is empty on the last.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}
