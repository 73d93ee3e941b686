package admin

import (
	"net/netip"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"enclave/wire"
	"enclave/wire/api"
)

// The types below stand in for types of wire in the OpenAPI document: wire imports
// nothing but the standard library, so its types cannot describe themselves to huma.
type (
	portsSchema   struct{}
	windowsSchema struct{}
	nullableTime  struct{}
	tagSchema     struct{}
	ipSchema      struct{}
)

// Schema says that ports are text.
func (portsSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Nullable: true, Pattern: `^\s*[1-9][0-9-]*\s*(,\s*[1-9][0-9-]*\s*)*$`,
		Description: "Ports and ranges, both ends included; null or absent is every port. TCP and UDP only.",
		Examples:    []any{"22,80,8000-8100"},
	}
}

// Schema says that active hours are null, one window, or a list.
func (windowsSchema) Schema(r huma.Registry) *huma.Schema {
	window := r.Schema(reflect.TypeFor[wire.Window](), true, "Window")
	most := wire.MaxWindows
	return &huma.Schema{
		Description: "When the policy counts: null is always; one window, or several.",
		OneOf: []*huma.Schema{
			{Type: "null", Enum: []any{nil}}, // huma checks the enum, and knows no type null
			window,
			{Type: huma.TypeArray, Items: window, MaxItems: &most},
		},
	}
}

// Schema allows null where a pointer is optional: clients clear an instant with it.
func (nullableTime) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true}
}

// Schema gives tags their rule.
func (tagSchema) Schema(huma.Registry) *huma.Schema {
	most := wire.MaxTagLen
	return &huma.Schema{Type: huma.TypeString, Pattern: `^([a-z0-9]+[-.])*[a-z0-9]+$`, MaxLength: &most}
}

// Schema allows both families.
func (ipSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "IPv4 or IPv6 address"}
}

// policyBody is wire.Policy as a client may send it. It exists for its schema alone;
// what is absent is null or empty, as in the question format, so little is required.
type policyBody struct {
	ID           wire.PolicyID     `json:"id,omitempty" doc:"Given by the server; sent back unchanged or left out"`
	Name         string            `json:"name,omitempty" maxLength:"128"`
	Kind         wire.PolicyKind   `json:"type" enum:"direct,gateway"`
	Enabled      bool              `json:"enabled"`
	SenderTags   []wire.Tag        `json:"sender_tags" nullable:"false"`
	ReceiverTags []wire.Tag        `json:"receiver_tags,omitempty"`
	ACLs         []wire.ACL        `json:"acls" nullable:"false" maxItems:"256"`
	ExpiresAt    nullableTime      `json:"expires_at,omitempty"`
	ExpiresLocal *wire.LocalTime   `json:"expires_local,omitempty" doc:"In place of expires_at: a time on the wall clock of a zone, whose instant follows the rules of the zone"`
	ExpiryAction wire.ExpiryAction `json:"expiry_action,omitempty" enum:"disable,delete" doc:"disable when absent"`
	ActiveHours  wire.Windows      `json:"active_hours,omitempty"`
	SenderTrust  []string          `json:"trust_requirements,omitempty"`
	RecvTrust    []string          `json:"receiver_trust,omitempty"`
	Gateways     []gatewayBody     `json:"gateways,omitempty"`
	SubnetFilter []string          `json:"subnet_filter,omitempty"`
	Priority     string            `json:"priority,omitempty" enum:"balanced,ordered,nearest"`
	Notes        string            `json:"notes,omitempty" maxLength:"4096"`
}

type gatewayBody struct {
	System  wire.SystemID `json:"system"`
	Subnets []string      `json:"subnets" nullable:"false"`
}

// newRegistry makes the registry of schemas with the stand-ins in place. Names of
// shapes that exist in both wire and wire/api carry the package.
func newRegistry() huma.Registry {
	r := huma.NewMapRegistry("#/components/schemas/", func(t reflect.Type, hint string) string {
		name := huma.DefaultSchemaNamer(t, hint)
		switch t {
		case reflect.TypeFor[wire.Problem]():
			return "Mistake"
		case reflect.TypeFor[wire.Zone]():
			return "ZoneBody"
		case reflect.TypeFor[wire.Record]():
			return "RecordBody"
		case reflect.TypeFor[wire.Requirement]():
			return "RequirementBody"
		}
		return name
	})
	alias := func(t, stand reflect.Type) { r.RegisterTypeAlias(t, stand) }
	alias(reflect.TypeFor[wire.Ports](), reflect.TypeFor[portsSchema]())
	alias(reflect.TypeFor[wire.Windows](), reflect.TypeFor[windowsSchema]())
	alias(reflect.TypeFor[wire.Tag](), reflect.TypeFor[tagSchema]())
	alias(reflect.TypeFor[netip.Addr](), reflect.TypeFor[ipSchema]())
	alias(reflect.TypeFor[wire.Policy](), reflect.TypeFor[policyBody]())
	alias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[api.Problem]())
	return r
}

// optional is a field that a PATCH may leave out, set, or clear with null; encoding/json
// alone cannot tell the first from the last.
type optional[T any] struct {
	Set   bool
	Value *T
}

// instant is an optional instant with a schema of its own.
type instant struct{ optional[time.Time] }

// UnmarshalJSON notes that the field was there.
func (i *instant) UnmarshalJSON(b []byte) error {
	i.Set = true
	if string(b) == "null" {
		return nil
	}
	i.Value = new(time.Time)
	return i.Value.UnmarshalJSON(b)
}

// Schema is that of an instant or null.
func (instant) Schema(r huma.Registry) *huma.Schema { return nullableTime{}.Schema(r) }
