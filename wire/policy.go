package wire

import (
	"bytes"
	"encoding/json"
	"time"
)

// PolicyKind tells policies between systems from policies through gateways.
type PolicyKind string

// The kinds of policy.
const (
	Direct  PolicyKind = "direct"
	Gateway PolicyKind = "gateway"
)

// Policy is the document an administrator writes; the same JSON stands in the API,
// in files and in the question format. Validation is control/policy's.
type Policy struct {
	ID           PolicyID       `json:"id,omitempty"`
	Name         string         `json:"name,omitempty"`
	Kind         PolicyKind     `json:"type"`
	Enabled      bool           `json:"enabled"`
	SenderTags   []Tag          `json:"sender_tags"`
	ReceiverTags []Tag          `json:"receiver_tags,omitempty"`
	ACLs         []ACL          `json:"acls"`
	ExpiresAt    *time.Time     `json:"expires_at,omitempty"`    // this or ExpiresLocal
	ExpiresLocal *LocalTime     `json:"expires_local,omitempty"` // its instant follows the zone's rules
	ExpiryAction ExpiryAction   `json:"expiry_action,omitempty"` // empty means disable
	ActiveHours  Windows        `json:"active_hours,omitempty"`
	SenderTrust  []string       `json:"trust_requirements,omitempty"`
	RecvTrust    []string       `json:"receiver_trust,omitempty"`
	Gateways     []GatewayRoute `json:"gateways,omitempty"`
	SubnetFilter []string       `json:"subnet_filter,omitempty"`
	Priority     string         `json:"priority,omitempty"` // balanced, ordered, nearest
	Notes        string         `json:"notes,omitempty"`
}

// Expiry is the instant from which the policy no longer counts; zero is never.
func (p *Policy) Expiry() (time.Time, error) {
	switch {
	case p.ExpiresLocal != nil:
		return p.ExpiresLocal.Instant()
	case p.ExpiresAt != nil:
		return *p.ExpiresAt, nil
	}
	return time.Time{}, nil
}

// ExpiryAction is what happens to an object at its expiry.
type ExpiryAction string

// The actions; either takes effect at the instant even when it runs later.
const (
	DisableOnExpiry ExpiryAction = "disable"
	DeleteOnExpiry  ExpiryAction = "delete"
)

// ACL is one rule of a policy. Ports are for TCP and UDP only; nil is every port.
type ACL struct {
	Proto       Proto  `json:"protocol"`
	Ports       Ports  `json:"ports,omitempty"`
	Description string `json:"description,omitempty"`
}

// GatewayRoute names a gateway and the subnets it carries for one policy.
type GatewayRoute struct {
	System  SystemID `json:"system"`
	Subnets []string `json:"subnets"`
}

// Window is one span of active hours on the wall clock of a zone. Days name the
// day a window starts on; End may be 24:00 and may lie before Start, which wraps
// past midnight. A nil Days is a mistake, an empty one is never active.
type Window struct {
	Zone  string   `json:"tz"`
	Days  []string `json:"days"` // mon tue wed thu fri sat sun
	Start string   `json:"start"`
	End   string   `json:"end"`
}

// Windows is a policy's active hours: none means always. In JSON it is null, one
// window, or a list of windows.
type Windows []Window

// UnmarshalJSON reads null, one window or a list.
func (w *Windows) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	switch {
	case bytes.Equal(b, []byte("null")):
		*w = nil
		return nil
	case len(b) > 0 && b[0] == '{':
		var one Window
		if err := strictUnmarshal(b, &one); err != nil {
			return err
		}
		*w = Windows{one}
		return nil
	}
	var list []Window
	if err := strictUnmarshal(b, &list); err != nil {
		return err
	}
	*w = list
	return nil
}

// strictUnmarshal refuses unknown fields, which a custom UnmarshalJSON would
// otherwise let through even under a strict decoder.
func strictUnmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
