package wire

import "time"

// Version is the version of the agent protocol.
//
//	1  first release
const Version = 1

// Maximum sizes. A message that exceeds one is refused whole, never cut.
const (
	MaxTagLen        = 64      // bytes of a tag
	MaxNameLen       = 128     // bytes of a description or policy name
	MaxNotesLen      = 4096    // bytes of free text
	MaxTagsPerSystem = 64      // tags on one system or key
	MaxTagsPerSide   = 256     // sender or receiver tags of one policy
	MaxACLs          = 256     // rules of one policy
	MaxPortRanges    = 256     // ranges of one rule
	MaxWindows       = 32      // active-hours windows of one policy
	MaxCandidates    = 16      // candidates one system may report
	MaxPeers         = 100_000 // peers in one map
	MaxGrantsPerPeer = 4096    // grants between one pair, both directions
	MaxRelays        = 64      // relays in one map
	MaxCertChain     = 3       // certificates of one SVID
	MaxCertLen       = 8 << 10 // bytes of one DER certificate
	MaxTicketLen     = 512     // bytes of a pair ticket
	MaxClockLen      = 16      // bytes of which clock ends a grant
	MaxCauseLen      = 512     // bytes of a delta's cause

	MaxRequestBody = 256 << 10 // bytes of one agent or API request
	MaxPolicySet   = 8 << 20   // bytes of a whole policy set
	MaxMapMessage  = 64 << 20  // bytes of one map message
	MaxMapValues   = 1 << 20   // objects in all its arrays; one takes 60 bytes at least, in a map that says something
	MaxMapTexts    = 8 << 20   // texts in all its arrays: addresses, of which the Internet without its exceptions is 285 for each grant
	MaxMembers     = 64        // members of one of its objects
	MaxJSONDepth   = 32        // nesting of any JSON document we accept
)

// MaxRevisionJump is by how much a map's revision may be ahead of the last one: more than
// a hundred changes a second make in a year, and room for thousands of restores. Beyond it
// is no count but damage, which would leave no revision above it to get out by.
const MaxRevisionJump = 1 << 32

// MaxClockSkew is how far an agent's clock may be from the control plane's.
// Certificates, not-after instants and active hours all depend on it.
const MaxClockSkew = 5 * time.Minute

// MapLife is how long a map counts without contact with the control plane. It is
// a setting of the control plane; this is its default.
const MapLife = 24 * time.Hour

// HeartbeatEvery is the rhythm of the map stream; an agent that hears nothing for
// three beats reconnects.
const HeartbeatEvery = 15 * time.Second
