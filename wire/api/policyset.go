package api

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"enclave/wire"
)

// Apply asks for a whole policy set to become the one in force, as one revision.
type Apply struct {
	Set    wire.PolicySet `json:"set"`
	Reason string         `json:"reason,omitempty"`
	// ConfirmWithin, in seconds, reverts the change by itself unless it is confirmed in
	// time; 0 keeps it.
	ConfirmWithin int `json:"confirm_within_seconds,omitempty"`
	// Force names tests that this change may break.
	Force []string `json:"force,omitempty"`
}

// Applied answers Apply.
type Applied struct {
	Changed
	Impact    Impact     `json:"impact"`
	ConfirmBy *time.Time `json:"confirm_by,omitempty"` // reverts then
}

// Access is one thing somebody may do: the unit in which changes are compared.
type Access struct {
	From   wire.SystemID `json:"from"`
	To     wire.SystemID `json:"to"`
	Names  [2]string     `json:"names"` // of From and To, for people
	Proto  wire.Proto    `json:"protocol"`
	Ports  wire.Ports    `json:"ports,omitempty"`
	Policy wire.PolicyID `json:"policy"`
	Rule   int           `json:"rule"`
	// PolicyName is what people call Policy.
	PolicyName string `json:"policy_name,omitempty"`

	// Subnets are the addresses behind To, when To is a gateway for them, and Hosts the
	// DNS names, which it resolves.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	Hosts   []string       `json:"hosts,omitempty"`
	// Leads are the addresses that Hosts may lead to.
	Leads []netip.Prefix `json:"leads,omitempty"`
	// Rest says that any stands for the protocols without a name only: of what it
	// covers besides, something else decides or an entry of its own tells.
	Rest bool `json:"rest,omitempty"`
}

// maxShown is how many places What names: 0.0.0.0/0 without what is never reached comes
// to about thirty subnets.
const maxShown = 8

// What says what may be opened, and where, on one line: "tcp/443 192.168.1.0/24 db.test".
// Names in it are as they came: whoever shows it makes it safe for a terminal.
func (a *Access) What() string {
	what := a.Proto.String()
	switch {
	case a.Rest:
		what = "any other protocol"
	case a.Ports != nil:
		what += "/" + a.Ports.String()
	}
	list := func(word string, places []string) {
		if more := len(places) - maxShown; more > 0 {
			places = append(places[:maxShown:maxShown], fmt.Sprintf("and %d more", more))
		}
		if len(places) > 0 {
			what += word + strings.Join(places, " ")
		}
	}
	list(" ", texts(a.Subnets))
	list(" ", a.Hosts)
	list(" at ", texts(a.Leads))
	return what
}

func texts(prefixes []netip.Prefix) (out []string) {
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

// Impact is what a change would do at an instant. Lists are cut at a documented size;
// the counts are whole.
type Impact struct {
	At          time.Time          `json:"at"`
	Gained      []Access           `json:"gained"`
	Lost        []Access           `json:"lost"`
	GainedCount int                `json:"gained_count"`
	LostCount   int                `json:"lost_count"`
	Introduced  [][2]wire.SystemID `json:"introduced"` // pairs that get to know each other
	Forgotten   [][2]wire.SystemID `json:"forgotten"`  // pairs that forget each other
	Flows       []LiveFlow         `json:"flows_cut"`
	Asked       *Asked             `json:"flows_asked,omitempty"` // of whom Flows are known; of a dry run
	Tests       []TestResult       `json:"tests_flipped"`
	// Warnings name what is allowed and probably not meant, such as a tag that no system
	// carries.
	Warnings []string `json:"warnings,omitempty"`
}

// Asked says of how many systems it is known which flows live there. No flow of the others is
// listed, and some may be cut.
type Asked struct {
	Concerned int `json:"concerned"` // systems at which something is lost
	Asked     int `json:"asked"`     // of them, those that are connected and could be asked
	Answered  int `json:"answered"`  // of them, those that answered in time
}

// Gap says in a sentence how many did not answer; "" when all have.
func (a *Asked) Gap() string {
	if a == nil || a.Answered >= a.Concerned {
		return ""
	}
	return fmt.Sprintf("of %d systems where access is lost %d could be asked for live flows and %d answered: what lives at the others is not known", a.Concerned, a.Asked, a.Answered)
}

// LiveFlow is a flow as the agent at its receiving end reports it.
type LiveFlow struct {
	wire.Flow
	From  wire.SystemID `json:"from"`
	To    wire.SystemID `json:"to"`
	Since time.Time     `json:"since"`
	Bytes uint64        `json:"bytes"`
	// Names and PolicyName are what people call From, To and Policy; what lies behind To
	// is said before its name.
	Names      [2]string `json:"names"`
	PolicyName string    `json:"policy_name,omitempty"`
}

// TestResult is what became of an assertion.
type TestResult struct {
	wire.Assertion
	Passed bool   `json:"passed"`
	Why    string `json:"why"`
}

// Explanation says why a flow would pass or not, with the whole chain.
type Explanation struct {
	From   wire.SystemID `json:"from"`
	To     wire.SystemID `json:"to"`
	Proto  wire.Proto    `json:"protocol"`
	Port   uint16        `json:"port,omitempty"`
	At     time.Time     `json:"at"`
	Allow  bool          `json:"allow"`
	Policy wire.PolicyID `json:"policy,omitempty"`
	Rule   int           `json:"rule"`
	Why    string        `json:"why"`
	Chain  []Step        `json:"chain"`
	// Fixes are the smallest single changes that would allow a denied flow.
	Fixes []string `json:"fixes,omitempty"`
	// Names are what people call the systems that it is about, by ID; Why, details and
	// fixes use them.
	Names map[string]string `json:"names,omitempty"`
}

// Step is one condition on the way to a verdict.
type Step struct {
	Policy wire.PolicyID `json:"policy,omitempty"` // empty for what concerns every policy
	Name   string        `json:"name,omitempty"`   // of the policy
	Check  string        `json:"check"`            // system, sender, receiver, trust, enabled, expiry, hours, rule, gateway, mutual
	OK     bool          `json:"ok"`
	Detail string        `json:"detail"`
}

// Coming is one thing that will happen by itself.
type Coming struct {
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`   // opens, closes, expires
	Object  string    `json:"object"` // policy, system, key, trust
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Detail  string    `json:"detail"`
	Warning string    `json:"warning,omitempty"` // e.g. a receiver is left without any sender
}

// Graph is who reaches whom at an instant.
type Graph struct {
	At    time.Time `json:"at"`
	Nodes []Node    `json:"nodes"`
	Edges []Access  `json:"edges"`
	More  bool      `json:"more,omitempty"` // there are more edges than an answer holds: ask by tags
}

// TagGraph is what policies let the carriers of one tag open to those of another at an
// instant. What two untagged systems that have added each other may do is not in it.
type TagGraph struct {
	At       time.Time   `json:"at"`
	Tags     []TagCount  `json:"tags"`
	Untagged int         `json:"untagged"` // systems without a tag
	Edges    []TagAccess `json:"edges"`
}

// TagCount is a tag with how many systems that take part carry it.
type TagCount struct {
	Tag     wire.Tag `json:"tag"`
	Systems int      `json:"systems"`
}

// TagAccess is one rule of a policy between two tags, or from a tag through a gateway.
type TagAccess struct {
	From      wire.Tag       `json:"from"`
	To        wire.Tag       `json:"to,omitempty"`
	Gateway   wire.SystemID  `json:"gateway,omitempty"`
	Proto     wire.Proto     `json:"protocol"`
	Ports     wire.Ports     `json:"ports,omitempty"`
	Policy    wire.PolicyID  `json:"policy"`
	Rule      int            `json:"rule"`
	Senders   int            `json:"senders"`   // of those with the tag, how many the policy takes: trust may keep some out
	Receivers int            `json:"receivers"` // the same of the other side
	Subnets   []netip.Prefix `json:"subnets,omitempty"`
	Hosts     []string       `json:"hosts,omitempty"`

	PolicyName  string `json:"policy_name,omitempty"`
	GatewayName string `json:"gateway_name,omitempty"`
}

// Node is a system of a Graph.
type Node struct {
	ID   wire.SystemID `json:"id"`
	Name string        `json:"name"`
	Tags []wire.Tag    `json:"tags"`
}

// RevisionEntry is one revision of the policy set.
type RevisionEntry struct {
	Revision wire.Revision `json:"revision"`
	At       time.Time     `json:"at"`
	Author   string        `json:"author"`
	Action   string        `json:"action"`
	Object   string        `json:"object,omitempty"`
	Reason   string        `json:"reason,omitempty"`

	ObjectName string `json:"object_name,omitempty"` // what it is called now, where it has a name

	Pending *time.Time `json:"confirm_by,omitempty"`
}
