package wire

import (
	"fmt"
	"net/netip"
	"time"
)

// Grant is what a policy comes to between two systems: From may open flows to To.
// It counts in [NotBefore, NotAfter); a zero time is unbounded. Because the instant
// travels with the grant, the receiver closes on time without the control plane.
type Grant struct {
	From      SystemID  `json:"from"`
	To        SystemID  `json:"to"`
	Proto     Proto     `json:"proto"`
	Ports     Ports     `json:"ports,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Policy    PolicyID  `json:"policy"`
	Rule      int       `json:"rule"` // index into the policy's rules

	// Name and Ends are for people: what the policy was called when the grant was sent,
	// and which clock NotAfter is of. Nothing is allowed or refused by them.
	Name string `json:"policy_name,omitempty"`
	Ends Clock  `json:"ends,omitempty"`

	// Subnets makes this the grant of a gateway policy: From may open flows to these
	// addresses behind To, and by this grant to none of To's own. None is a direct
	// grant, to To's own addresses only.
	Subnets []netip.Prefix `json:"subnets,omitempty"`

	// Names are DNS names behind To: their stand-ins (wire/names) are among Subnets. To
	// resolves them and dials what lies in Within, the addresses of the policy's subnets.
	Names  []string       `json:"names,omitempty"`
	Within []netip.Prefix `json:"within,omitempty"`

	// Priority and Order say which of several gateways of the policy a new flow takes:
	// PriorityBalanced (and empty) spreads them, PriorityOrdered takes the lowest Order
	// that is up, PriorityNearest the shortest round trip. The sender chooses.
	Priority string `json:"priority,omitempty"`
	Order    int    `json:"order,omitempty"`
}

// Clock is what lets a grant end at its time. A value that is not listed, of a newer
// control, and none, of an older one, only say that it ends.
type Clock string

// The clocks.
const (
	EndsPolicy   Clock = "policy"   // the policy expires
	EndsHours    Clock = "hours"    // its hours end
	EndsSender   Clock = "sender"   // Grant.From expires
	EndsReceiver Clock = "receiver" // Grant.To expires
	EndsTrust    Clock = "trust"    // a requirement is met no longer
)

// Ended says why the grant is over once its time has come; name is what a system is
// called. It is empty where the grant does not say.
func (g *Grant) Ended(name func(SystemID) string) string {
	policy := g.Name
	if policy == "" || len(policy) > MaxNameLen {
		policy = string(g.Policy)
	}
	switch g.Ends {
	case EndsPolicy:
		return fmt.Sprintf("policy %q expired", policy)
	case EndsHours:
		return fmt.Sprintf("hours of policy %q ended", policy)
	case EndsSender:
		return fmt.Sprintf("system %q expired, which policy %q let start it", name(g.From), policy)
	case EndsReceiver:
		return fmt.Sprintf("system %q expired, to which policy %q let start it", name(g.To), policy)
	case EndsTrust:
		return fmt.Sprintf("trust lapsed, which policy %q requires", policy)
	}
	return ""
}

// How a policy chooses among its gateways.
const (
	PriorityBalanced = "balanced"
	PriorityOrdered  = "ordered"
	PriorityNearest  = "nearest"
)

// ActiveAt reports whether the grant counts at t.
func (g *Grant) ActiveAt(t time.Time) bool {
	return (g.NotBefore.IsZero() || !t.Before(g.NotBefore)) && (g.NotAfter.IsZero() || t.Before(g.NotAfter))
}

// Flow names one flow and the rule that accepted it.
type Flow struct {
	Proto  Proto          `json:"proto"`
	Src    netip.AddrPort `json:"src"` // who opened it; port 0 for ICMP
	Dst    netip.AddrPort `json:"dst"`
	Policy PolicyID       `json:"policy,omitempty"`
	Rule   int            `json:"rule"`
	Run    string         `json:"run,omitempty"` // sandbox run that owns it
}

func (f Flow) String() string { return fmt.Sprintf("%s %s -> %s", f.Proto, f.Src, f.Dst) }

// Problem is one mistake in a document, with the place it stands at.
type Problem struct {
	Path    string `json:"path"` // policies[0].acls[1].ports
	Message string `json:"message"`
}

func (p Problem) Error() string {
	if p.Path == "" { // the document as a whole
		return p.Message
	}
	return p.Path + ": " + p.Message
}
