package wire

import "net/netip"

// Limits of names. A record that would exceed one is refused, never cut.
const (
	MaxZones        = 256  // zones of an organisation
	MaxRecords      = 4096 // records of an organisation
	MaxTargets      = 256  // tags or systems of one record
	MaxResolvers    = 8    // resolvers, and gateways, of one forwarding zone
	MaxNamesPerPeer = 512  // names that one peer answers to
)

// Zone is the document of a DNS zone. A zone either is ours, and then nobody else is
// asked about its names, or is forwarded to resolvers behind gateways.
type Zone struct {
	Name     string       `json:"name"`                // corp.example; "." only to forward everything else
	AutoTags []Tag        `json:"auto_tags,omitempty"` // systems with one of these are HOSTNAME.ZONE
	Forward  *ZoneForward `json:"forward,omitempty"`   // the zone is not ours
	Notes    string       `json:"notes,omitempty"`
}

// ZoneForward says who answers a zone that is not ours: resolvers that an asker
// reaches through one of the gateways, if a policy lets it.
type ZoneForward struct {
	Gateways  []SystemID `json:"gateways"`
	Resolvers []string   `json:"resolvers"` // address or address:port
}

// Record is the document of a DNS record: the name stands for the systems that it
// targets, and for each asker only for those that the asker is connected to.
type Record struct {
	Name    string     `json:"name"` // web.corp.example, *.corp.example, or the zone's own name
	Tags    []Tag      `json:"tags,omitempty"`
	Systems []SystemID `json:"systems,omitempty"`
	Notes   string     `json:"notes,omitempty"`
}

// DNS is what a map says of names beyond those of the peers in it.
type DNS struct {
	Zones []string `json:"zones"` // that are ours, sorted
}

// Forward is a zone that a peer, as a gateway, leads to the resolvers of.
type Forward struct {
	Zone      string           `json:"zone"` // "." is every name that no other zone owns
	Resolvers []netip.AddrPort `json:"resolvers"`
}
