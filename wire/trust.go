package wire

// RequirementKind says how a trust requirement is met.
type RequirementKind string

// The kinds of trust requirement.
const (
	UserAuthentication RequirementKind = "user-authentication"
	PublicIP           RequirementKind = "public-ip"
)

// Requirement is a property that systems meet or not, judged continuously. Its kind
// and authority cannot change after it was made: what others rely on would silently
// mean something else.
type Requirement struct {
	ID          string          `json:"id"`
	Kind        RequirementKind `json:"kind"`
	Description string          `json:"description,omitempty"`

	// UserAuthentication: who vouches, and what must stand in the sign-in token. All
	// conditions must be met.
	Authority string           `json:"authority,omitempty"` // "local", or the issuer of an OIDC provider
	Claims    []ClaimCondition `json:"claims,omitempty"`

	// PublicIP: where the system's control connection comes from. Ranges and countries
	// must both pass.
	Ranges    []RangeCondition   `json:"ranges,omitempty"`
	Countries []CountryCondition `json:"countries,omitempty"`
}

// ClaimCondition asks for a value among those of a claim.
type ClaimCondition struct {
	Claim string `json:"claim"`
	Value string `json:"value"`
}

// RangeCondition allows or blocks addresses: one, a CIDR prefix, or first-last. The
// smallest range that contains an address decides about it.
type RangeCondition struct {
	Range   string `json:"range"`
	Blocked bool   `json:"blocked,omitempty"`
}

// CountryCondition allows or blocks a country by its ISO 3166-1 alpha-2 code.
type CountryCondition struct {
	Country string `json:"country"`
	Blocked bool   `json:"blocked,omitempty"`
}

// Assertion is a test kept with the policies: may From open this flow to To?
// From and To are system IDs, unambiguous names or "tag:NAME", which stands for every
// system that carries the tag.
type Assertion struct {
	Name  string `json:"name,omitempty"`
	From  string `json:"from"`
	To    string `json:"to"`
	Proto Proto  `json:"protocol"`
	Port  uint16 `json:"port,omitempty"`
	At    string `json:"at,omitempty"` // RFC 3339; empty is now
	Allow bool   `json:"allow"`
}

// PolicySet is everything that decides who reaches whom, as one document. Policies
// are known by name: applying a set creates, changes and removes until they are those.
type PolicySet struct {
	Policies     []Policy      `json:"policies"`
	Requirements []Requirement `json:"requirements,omitempty"`
	Tags         []TagTrust    `json:"tags,omitempty"`
	Tests        []Assertion   `json:"tests,omitempty"`
}

// TagTrust asks for requirements wherever a tag counts.
type TagTrust struct {
	Name  Tag      `json:"name"`
	Trust []string `json:"trust_requirements"`
}
