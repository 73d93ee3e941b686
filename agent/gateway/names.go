package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"enclave/wire"
	"enclave/wire/names"
)

// Resolver is what a Network may also be: it resolves names as this host does.
type Resolver interface {
	// Lookup returns the addresses of a name and how long they hold. A name without any
	// is no error.
	Lookup(ctx context.Context, name string) (addrs []netip.Addr, ttl time.Duration, err error)
}

// Named is what a stand-in stands for, for one flow.
type Named struct {
	Name   string
	Within []netip.Prefix // where its addresses must lie, as senders know them
}

// Bounds of what names cost, and of how long an answer is believed.
const (
	maxPins     = 1024 // names at once
	maxAnswers  = 16   // addresses of one name; more are left out
	minPin      = 5 * time.Second
	maxPin      = time.Hour
	pinRetry    = 5 * time.Second // after a resolver failed
	pinStale    = time.Minute     // for which the last answer stands in for a resolver that fails
	lookupAfter = 4 * time.Second // a resolver is given up
)

// pins are the answers that this gateway believes, each for its TTL. A name is asked for
// when a flow needs it, by one flow at a time.
type pins struct {
	mu     sync.Mutex // guards what follows; never held across a lookup
	byName map[string]*pin
}

type pin struct {
	addrs  []netip.Addr
	until  time.Time     // when it is to be asked again
	good   time.Time     // until when addrs were said to hold
	err    error         // of the last lookup
	asking chan struct{} // closed when the lookup under way has ended; nil is none
}

// lookup returns the addresses of a name, and until when they hold.
func (p *pins) lookup(ctx context.Context, r Resolver, name string) ([]netip.Addr, time.Time, error) {
	for {
		now := time.Now()
		p.mu.Lock()
		e := p.byName[name]
		if e == nil {
			if !p.room(now) {
				p.mu.Unlock()
				return nil, now, errors.New("this gateway resolves as many names as it may")
			}
			e = new(pin)
			p.byName[name] = e
		}
		asking := e.asking
		if asking == nil && now.Before(e.until) {
			defer p.mu.Unlock()
			return e.addrs, e.until, e.err
		}
		if asking == nil {
			e.asking = make(chan struct{})
			p.mu.Unlock()
			p.ask(ctx, r, name, e)
			if ctx.Err() != nil {
				return nil, now, ctx.Err()
			}
			continue
		}
		p.mu.Unlock()
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, now, ctx.Err()
		}
	}
}

// room reports whether one more name can be kept; those that nobody has asked for since
// they ended give way. The caller holds mu.
func (p *pins) room(now time.Time) bool {
	if p.byName == nil {
		p.byName = make(map[string]*pin)
	}
	if len(p.byName) >= maxPins {
		for name, e := range p.byName {
			if e.asking == nil && !now.Before(e.until) {
				delete(p.byName, name)
			}
		}
	}
	return len(p.byName) < maxPins
}

func (p *pins) ask(ctx context.Context, r Resolver, name string, e *pin) {
	try, cancel := context.WithTimeout(ctx, lookupAfter)
	addrs, ttl, err := r.Lookup(try, name)
	cancel()
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	close(e.asking)
	e.asking = nil
	switch {
	case err == nil:
		e.addrs, e.err = nil, nil
		for _, a := range addrs[:min(len(addrs), maxAnswers)] {
			e.addrs = append(e.addrs, a.Unmap())
		}
		e.good = now.Add(min(max(ttl, minPin), maxPin))
		e.until = e.good
	case ctx.Err() != nil: // who asked is gone, which says nothing of the name
	default:
		if now.After(e.good.Add(pinStale)) {
			e.addrs = nil
		}
		if e.until = now.Add(pinRetry); e.addrs == nil {
			e.err = err
		}
	}
}

// targets returns where a flow may be carried on to, in order of preference; of a name
// that is until an instant, else it is zero.
func (g *Gateway) targets(ctx context.Context, k flowKey) (list []netip.Addr, until time.Time, err error) {
	if !names.StandIns().Contains(k.dst.Addr()) {
		real, err := g.target(k.dst.Addr())
		return []netip.Addr{real}, until, err
	}
	r, can := g.cfg.Network.(Resolver)
	if !can || g.cfg.Named == nil {
		return nil, until, errors.New("this gateway resolves no names")
	}
	n, ok := g.cfg.Named(k.proto, k.src, k.dst)
	if !ok {
		return nil, until, fmt.Errorf("%s stands for no name that the sender may reach", k.dst.Addr())
	}
	addrs, until, err := g.pins.lookup(ctx, r, n.Name)
	if err != nil {
		return nil, until, fmt.Errorf("resolve %s: %w", n.Name, err)
	}
	why := []string{"it has no address"}
	if len(addrs) > 0 {
		why = nil
	}
	for _, a := range addrs {
		err := g.judge(a)
		if err == nil && !g.routes.Load().leads(a, n.Within) {
			err = fmt.Errorf("%s is in no subnet of the policy that this gateway carries", a)
		}
		if err == nil {
			list = append(list, a)
		} else {
			why = append(why, err.Error())
		}
	}
	if len(list) == 0 {
		return nil, until, fmt.Errorf("%s leads nowhere that policy allows: %s", n.Name, strings.Join(why, "; "))
	}
	return list, until, nil
}

// leads reports whether real lies in one of the prefixes, as senders know it.
func (r *Routes) leads(real netip.Addr, within []netip.Prefix) bool {
	in := func(a netip.Addr) bool {
		return slices.ContainsFunc(within, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if !r.given {
		return in(real)
	}
	return slices.ContainsFunc(r.list, func(route wire.Route) bool {
		if !route.Subnet.Contains(real) {
			return false
		}
		if route.As.IsValid() { // the way back
			return in(wire.Route{Subnet: route.As, As: route.Subnet}.Real(real))
		}
		return in(real)
	})
}

// follow ends a flow to a name, by cut, once the name does not lead to real any more: its
// answer has changed, or what may be reached has. stop returns when nobody looks any more.
func (g *Gateway) follow(ctx context.Context, k flowKey, real netip.Addr, until time.Time, cut func()) (stop func()) {
	if until.IsZero() {
		return func() {}
	}
	ctx, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			changed := g.changed()
			list, until, err := g.targets(ctx, k)
			if ctx.Err() != nil {
				return
			}
			if err == nil && !slices.Contains(list, real) {
				err = fmt.Errorf("the name answers with %s no more", real)
			}
			if err != nil {
				g.log.Info("a flow to a name ends", "from", k.src, "to", real, "reason", err)
				cut()
				return
			}
			again := time.NewTimer(time.Until(until))
			select {
			case <-again.C:
			case <-changed:
			case <-ctx.Done():
			}
			again.Stop()
		}
	}()
	return func() { end(); <-done }
}

// changed is closed by the next Review.
func (g *Gateway) changed() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.news == nil {
		g.news = make(chan struct{})
	}
	return g.news
}

// Review looks again at every flow to a name: what Named says has changed.
func (g *Gateway) Review() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.news != nil {
		close(g.news)
		g.news = nil
	}
}
