package netcheck

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"enclave/agent/link"
	"enclave/wire"
	"enclave/wire/svid"
)

// Config says whom to ask.
type Config struct {
	Network link.Network
	Relays  []Target
	// Trust tells relays from impostors; nil where the root is not known.
	Trust *svid.Trust
	// PortalURL answers 204 to whoever reaches it. Empty asks the host of the first relay,
	// where nothing, or a web server of its own, is expected.
	PortalURL string
	// Proxy returns the HTTP proxy for a URL, nil for none: as http.ProxyFromEnvironment,
	// but told the environment.
	Proxy    func(*url.URL) (*url.URL, error)
	ProxySet string // what the environment says, for people; without user and password
	Now      func() time.Time
}

// Target is a relay, or a control plane.
type Target struct {
	ID   wire.RelayID
	Kind string   // of the certificate that is expected there, svid.KindRelay or svid.KindControl
	Addr string   // host:port of its TLS; may be empty
	STUN []string // host:port of its STUN servers
}

// The limits of one look.
const (
	maxTargets  = 64
	maxServers  = 128 // STUN servers in all
	perName     = 2   // addresses taken of one name
	dialIn      = 5 * time.Second
	handshakeIn = 5 * time.Second
)

// Run looks at the network. It returns within some ten seconds, sooner when all answer.
// What cannot be looked at is in the report; the error is ctx's.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Relays = cfg.Relays[:min(len(cfg.Relays), maxTargets)]
	r := &Report{At: cfg.Now().UTC(), Mapping: MapUnknown, Hairpin: HairpinUnknown, Local: []netip.Addr{}, Relays: []RelayReport{}}
	local, err := cfg.Network.Addrs()
	if err != nil {
		r.Notes = append(r.Notes, "list addresses: "+err.Error())
	}
	for _, a := range local {
		r.Local = append(r.Local, a.Unmap())
	}
	var work sync.WaitGroup
	tls := make([]TLSReport, len(cfg.Relays))
	for i, t := range cfg.Relays {
		work.Go(func() { tls[i] = cfg.askTLS(ctx, t) })
	}
	work.Go(func() { r.Portal = cfg.askPortal(ctx) })
	stun, notes := cfg.resolve(ctx)
	udp := cfg.askUDP(ctx, r.Local, stun)
	work.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	r.Notes = append(append(r.Notes, notes...), udp.notes...)
	r.Mapping, r.Hairpin = udp.mapping, udp.hairpin
	for i, t := range cfg.Relays {
		x := RelayReport{ID: t.ID, Addr: t.Addr, TLS: tls[i], STUN: []STUNReport{}}
		for _, s := range udp.answers {
			if s.relay == i {
				x.STUN = append(x.STUN, s.STUNReport)
				r.countFamily(&s.STUNReport)
			}
		}
		r.Relays = append(r.Relays, x)
	}
	r.Proxy = cfg.proxyReport(r)
	return r, nil
}

func (r *Report) countFamily(s *STUNReport) {
	if !s.At.IsValid() {
		return
	}
	f := &r.IPv4
	if s.At.Addr().Is6() {
		f = &r.IPv6
	}
	if f.Asked++; s.Observed.IsValid() {
		f.Answered++
		f.Observed = s.Observed
	}
}

// server is a STUN server to ask.
type server struct {
	relay int
	STUNReport
}

// resolve turns the names of the STUN servers into addresses, both families of each.
func (cfg *Config) resolve(ctx context.Context) (out []server, notes []string) {
	ctx, cancel := context.WithTimeout(ctx, dialIn)
	defer cancel()
	for i, t := range cfg.Relays {
		for _, name := range t.STUN {
			host, service, err := net.SplitHostPort(name)
			port, perr := strconv.ParseUint(service, 10, 16)
			if err == nil {
				err = perr
			}
			var ips []netip.Addr
			if err == nil {
				ips, err = cfg.Network.LookupHost(ctx, host)
			}
			if err != nil {
				out = append(out, server{i, STUNReport{Server: name, Error: err.Error()}})
				continue
			}
			taken := map[bool]int{}
			for _, ip := range ips {
				if ip = ip.Unmap(); taken[ip.Is4()] < perName && len(out) < maxServers {
					taken[ip.Is4()]++
					out = append(out, server{i, STUNReport{Server: name, At: netip.AddrPortFrom(ip, uint16(port))}})
				}
			}
		}
	}
	if len(out) == maxServers {
		notes = append(notes, "there are more STUN servers than were asked")
	}
	return out, notes
}

// proxyReport says what the proxy of the environment was good for.
func (cfg *Config) proxyReport(r *Report) ProxyReport {
	out := ProxyReport{URL: cfg.ProxySet}
	if out.URL == "" {
		return out
	}
	asked := false
	for i, x := range r.Relays {
		proxy := cfg.proxyFor(cfg.Relays[i].Addr)
		asked = asked || proxy != nil
		switch {
		case x.TLS.Via != "":
			out.Works = true
		case proxy != nil && x.TLS.State == TLSBlocked:
			out.Error = x.TLS.Error
		}
	}
	if out.Works {
		out.Error = ""
	}
	out.Ignored = !asked && len(r.Relays) > 0
	return out
}

// proxyFor is the proxy that the environment has for a relay; nil for none.
func (cfg *Config) proxyFor(addr string) *url.URL {
	if cfg.Proxy == nil || addr == "" {
		return nil
	}
	u, err := cfg.Proxy(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil
	}
	return u
}
