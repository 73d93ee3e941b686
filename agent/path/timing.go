package path

import "time"

// The rhythm of a pair; docs/decisions/0060 weighs them. They are constants, since
// two ends that disagree about them would lose paths that work.
const (
	// Consent is how long one answer lets data be sent to an address (RFC 7675
	// section 5.1).
	Consent = 30 * time.Second

	// activeFor is how long a pair counts as active after its last data. A new pair
	// counts as active, so that it becomes direct before it is needed.
	activeFor = time.Minute

	// keepActive and keepIdle are the distances between pings on the direct path.
	// The active one bounds how long a death goes unnoticed; the idle one only keeps
	// the NATs' mappings, of which the shorter-lived ones are dropped after 30 s.
	keepActive = 2 * time.Second
	keepIdle   = 22 * time.Second

	// lostActive and lostIdle are how long a ping of the route may stay unanswered,
	// retries included, before the route is given up.
	lostActive = 2 * time.Second
	lostIdle   = 6 * time.Second

	// retryMin and retryMax bound the distance between retries on the route, which
	// is the round trip: a dozen within lostActive, so that a path that loses every
	// second question or answer is given up once in hours and not in minutes.
	retryMin = 150 * time.Millisecond
	retryMax = 500 * time.Millisecond

	// probeGap spaces the pings of a round. A NAT still creating one mapping may drop
	// the packet for the next, and a burst is what rate limits are made for.
	probeGap = 20 * time.Millisecond

	// firstRetry is how long after the round's start relayed pairs probe again,
	// doubling up to lastRetry; idleRetry while there is nothing to carry.
	firstRetry = 5 * time.Second
	lastRetry  = 24 * time.Second
	idleRetry  = 5 * time.Minute

	// upgradeEvery is how often an active direct pair asks its other addresses
	// whether one has become better.
	upgradeEvery = time.Minute

	// roundGap is the least distance between two rounds, whatever asks for one: a
	// peer that calls without end costs one round a second.
	roundGap = time.Second

	// fresh is how young an answer must be for an address to be made the route.
	fresh = keepActive + lostActive

	// answerIn is how long a ping may be answered at all.
	answerIn = 5 * time.Second

	// staleAfter is when an address that nobody names any more is forgotten.
	staleAfter = 2 * time.Minute

	// stableAfter is how long a route must hold for its earlier losses to be forgiven.
	stableAfter = time.Minute

	// worthIt is how much faster another address of the same rank must be to become
	// the route: this and a fifth of the round trip, so that noise moves nothing.
	worthIt = 5 * time.Millisecond
)

// tryAt is when, within a round, an address is pinged. The first ping may only open
// our own NAT; the second meets the peer's, which our call has made open by then.
var tryAt = [...]time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond, 2 * time.Second}
