package admin

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"enclave/store"
	"enclave/store/audit"
	"enclave/wire"
)

// Refusals by authority are recorded, but an attacker chooses how many there are. What
// is over the bounds is counted, and the count recorded once a while: at most
// 8,640 + 1,440 records a day, some 6 MB.
const (
	denialBurst  = 100              // records at once, of all addresses
	denialEvery  = 10 * time.Second // and one more each
	summaryEvery = time.Minute
	// denialTimeout bounds how long the store may take: a refusal is answered whether or
	// not it could be recorded.
	denialTimeout = 5 * time.Second
	maxDenialText = 128 // bytes of what the caller chose
)

// Denial is a request that authority refused.
type Denial struct {
	Actor   string // who, where that is known; else a stranger at From
	Action  string // auth.deny, api.deny, enrol.deny
	Object  string
	From    string // host:port or address
	Request string
	Detail  map[string]any // bounded by the caller
}

// recorder is what denials are written to.
type recorder interface {
	Record(ctx context.Context, c store.Change, action, object string, detail any) error
}

// denials records refusals within bounds.
type denials struct {
	store recorder
	log   *slog.Logger
	all   *rate.Limiter
	from  *throttle // by address, so that one does not use up what is there for all

	mu      sync.Mutex // guards what follows
	counted map[string]int
	since   time.Time
}

func newDenials(r recorder, log *slog.Logger) *denials {
	return &denials{store: r, log: log, all: rate.NewLimiter(rate.Every(denialEvery), denialBurst), from: newThrottle(), counted: make(map[string]int)}
}

// note records d, or counts it.
func (d *denials) note(ctx context.Context, now time.Time, n Denial) {
	host, _, err := net.SplitHostPort(n.From)
	if err != nil {
		host = n.From
	}
	from := wire.SubscriberOf(n.From)
	if d.from.spent(from, now) || !d.all.AllowN(now, 1) {
		d.count(now, n.Action)
		return
	}
	d.from.take(from, now)
	if n.Actor == "" {
		n.Actor = "stranger:" + bounded(host)
	}
	detail := map[string]any{"from": bounded(host)}
	for k, v := range n.Detail {
		detail[k] = v
	}
	d.write(ctx, store.Change{By: store.Actor(n.Actor), At: now.UTC(), Request: n.Request, Outcome: audit.Denied}, n.Action, n.Object, detail)
}

func (d *denials) count(now time.Time, action string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.counted) == 0 {
		d.since = now
	}
	d.counted[action]++
}

// summarise records what was only counted.
func (d *denials) summarise(ctx context.Context, now time.Time) {
	d.mu.Lock()
	counted, since := d.counted, d.since
	d.counted = make(map[string]int)
	d.mu.Unlock()
	if len(counted) == 0 {
		return
	}
	d.write(ctx, store.Change{By: "control", At: now.UTC(), Outcome: audit.Denied}, "audit.suppressed", "denials",
		map[string]any{"since": since.UTC(), "counts": counted})
}

func (d *denials) write(ctx context.Context, c store.Change, action, object string, detail any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), denialTimeout)
	defer cancel()
	if err := d.store.Record(ctx, c, action, object, detail); err != nil {
		d.log.Error("a refusal could not be recorded", "action", action, "object", object, "error", err)
	}
}

// run writes the summaries until ctx ends, and a last one then.
func (d *denials) run(ctx context.Context) {
	t := time.NewTicker(summaryEvery)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			d.summarise(ctx, now)
		case <-ctx.Done():
			d.summarise(ctx, time.Now())
			return
		}
	}
}

// bounded cuts what a stranger has chosen.
func bounded(s string) string {
	if len(s) > maxDenialText {
		s = s[:maxDenialText]
	}
	return s
}

// Denied records that authority refused a request beside this API, such as an
// enrolment. While the state is locked there is no trail to write to, only the log.
func (a *API) Denied(ctx context.Context, n Denial) {
	if a.denials == nil {
		a.strangers.Warn("request refused", "action", n.Action, "object", n.Object, "from", n.From)
		return
	}
	a.denials.note(ctx, time.Now(), n)
}

// Run writes what the API leaves to be written later, until ctx ends.
func (a *API) Run(ctx context.Context) { a.denials.run(ctx) }
