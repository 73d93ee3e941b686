package link

import (
	"context"
	"net/netip"
	"time"
)

// Mapper asks the router for an open UDP port. Without one, none is asked for.
type Mapper interface {
	// Map asks that what comes to the mapping is handed to port of this machine. Asked
	// again before it ends, it is renewed.
	Map(ctx context.Context, port uint16) (Mapping, error)
	// Unmap gives it back, as well as it can.
	Unmap(ctx context.Context, port uint16, m Mapping)
}

// Mapping is a port that the router has opened.
type Mapping struct {
	Addr  netip.AddrPort `json:"addr,omitzero"`
	Lasts time.Duration  `json:"-"`
	How   string         `json:"how,omitempty"`   // pcp, nat-pmp or upnp
	Error string         `json:"error,omitempty"` // why there is none
}

const (
	mapIn      = 15 * time.Second
	unmapIn    = 2 * time.Second
	mapAgain   = time.Minute // after a failure, doubling
	mapSeldom  = 30 * time.Minute
	mapAtLeast = 30 * time.Second // between renewals, whatever the router says
)

// keepMapping keeps a port of the router open for as long as ctx lasts.
func (l *Link) keepMapping(ctx context.Context) {
	if l.cfg.Mapper == nil {
		return
	}
	var have Mapping
	var port uint16
	var ends time.Time
	again := mapAgain
	for ctx.Err() == nil {
		now := l.udp.port()
		if have.Addr.IsValid() && now != port { // the socket was replaced
			l.unmap(ctx, port, have)
			have = Mapping{}
		}
		try, cancel := context.WithTimeout(ctx, mapIn)
		m, err := l.cfg.Mapper.Map(try, now)
		cancel()
		wait := max(m.Lasts/2, mapAtLeast)
		if err == nil {
			have, port, ends, again = m, now, time.Now().Add(m.Lasts), mapAgain
		} else {
			if time.Now().After(ends) {
				have = Mapping{Error: err.Error()}
			}
			wait = again
			again = min(2*again, mapSeldom)
		}
		l.mu.Lock()
		if was := l.mapping; was.Addr != have.Addr || was.Error == "" && have.Error != "" {
			l.log.Info("port mapping", "addr", have.Addr, "how", have.How, "err", have.Error)
		}
		l.mapping = have
		l.tell = true
		l.mu.Unlock()
		l.wake()
		select {
		case <-ctx.Done():
		case <-l.remap:
			again = mapAgain
		case <-time.After(wait):
		}
	}
	if have.Addr.IsValid() {
		l.unmap(ctx, port, have)
	}
}

func (l *Link) unmap(ctx context.Context, port uint16, m Mapping) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmapIn)
	defer cancel()
	l.cfg.Mapper.Unmap(ctx, port, m)
}
