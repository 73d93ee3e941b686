package netcheck

import (
	"fmt"
	"strings"
	"time"
)

// Verdict is how good a finding is.
type Verdict string

// The verdicts.
const (
	Good    Verdict = "ok"
	Warn    Verdict = "warn"
	Bad     Verdict = "fail"
	Unknown Verdict = "unknown"
)

// Finding is one thing that was looked at: what was found, and what that means in one
// sentence.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Means   string  `json:"means,omitempty"`
}

// Findings judges a report, one finding a question.
func (r *Report) Findings() []Finding {
	out := []Finding{r.udp(), r.family("IPv4", r.IPv4), r.family("IPv6", r.IPv6), r.mapping(), r.hairpin()}
	for i := range r.Relays {
		out = append(out, r.relay(&r.Relays[i]))
	}
	return append(out, r.port443(), r.portal(), r.proxy())
}

// UDP reports whether any STUN server answered.
func (r *Report) UDP() bool { return r.IPv4.Answered+r.IPv6.Answered > 0 }

func (r *Report) udp() Finding {
	asked, answered := r.IPv4.Asked+r.IPv6.Asked, r.IPv4.Answered+r.IPv6.Answered
	switch {
	case asked == 0:
		return Finding{"UDP", Unknown, "no STUN server to ask", "Name one with --stun HOST:PORT; a relay's do."}
	case answered == 0:
		return Finding{"UDP", Bad, fmt.Sprintf("none of %d STUN servers answers", asked),
			"UDP does not leave this network, or the servers are down: no direct paths."}
	}
	return Finding{"UDP", Good, fmt.Sprintf("%d of %d STUN servers answer", answered, asked), "Direct paths can be tried."}
}

func (r *Report) family(name string, f Family) Finding {
	local := false
	for _, a := range r.Local {
		local = local || a.Is4() == (name == "IPv4")
	}
	switch {
	case f.Answered > 0:
		means := "Systems that have it can be reached by it."
		if name == "IPv6" {
			means = "With systems that have it, too, paths need no NAT's mapping."
		}
		return Finding{name, Good, "seen from outside as " + f.Observed.String(), means}
	case f.Asked > 0 && local:
		return Finding{name, Warn, "this machine has an address, and no server answers by it", "No direct paths by " + name + "."}
	case f.Asked > 0:
		return Finding{name, Warn, "this machine has no address", "No direct paths by " + name + "."}
	case local:
		return Finding{name, Unknown, "this machine has an address, and no server has one", "Whether it leads out cannot be told."}
	}
	return Finding{name, Unknown, "neither this machine nor a server has an address", "No direct paths by " + name + "."}
}

func (r *Report) mapping() Finding {
	f := Finding{Check: "NAT mapping", Verdict: Good, Found: string(r.Mapping)}
	switch r.Mapping {
	case MapNone:
		f.Found, f.Means = "no NAT", "Others can aim at this machine's own address; a firewall may still ask to be opened from here first."
	case MapIndependent:
		f.Means = "Others can aim at one outside address, whoever they are."
	case MapNotByPort:
		f.Verdict, f.Found = Unknown, "endpoint-independent or address-dependent; the servers share one address"
		f.Means = "A STUN server at a second address would tell which."
	case MapByAddress, MapByPort, MapDependent:
		f.Verdict, f.Means = Warn, "Each other system would have to aim at an address that only it can cause; few pairs become direct."
	default:
		f.Verdict, f.Found = Unknown, "unknown, one STUN server only"
		f.Means = "Two addresses and two ports would tell; add a relay, or give it a second --stun."
		if !r.UDP() {
			f.Found, f.Means = "unknown, no STUN server answers", ""
		}
	}
	return f
}

func (r *Report) hairpin() Finding {
	f := Finding{Check: "hairpin", Verdict: Good, Found: string(r.Hairpin)}
	switch r.Hairpin {
	case HairpinYes:
		f.Means = "Systems behind the same NAT can also meet by its outside address."
	case HairpinNo:
		f.Verdict, f.Means = Warn, "Systems behind the same NAT meet by their inside addresses only."
	case HairpinNoNeed:
		f.Found = "no NAT, so nothing to turn back"
	default:
		f.Verdict = Unknown
	}
	return f
}

func (r *Report) relay(x *RelayReport) Finding {
	f := Finding{Check: "relay " + string(x.ID), Verdict: Good}
	var found []string
	switch t := x.TLS; t.State {
	case TLSVerified, TLSUnverified:
		text := fmt.Sprintf("TLS to %s, TCP in %s", x.Addr, ms(t.RTT))
		if t.Via != "" {
			text = fmt.Sprintf("TLS to %s through the proxy", x.Addr)
		}
		found = append(found, text)
		f.Means = "Reachable: pairs without a direct path can meet here."
		if t.State == TLSUnverified {
			f.Means = "Reachable; whether it is the real one cannot be told without the organisation's root."
		}
	case TLSSkipped:
		f.Verdict = Unknown
	case TLSBlocked:
		f.Verdict, f.Means = Bad, "Not reachable: pairs cannot meet here."
		found = append(found, fmt.Sprintf("no TCP to %s (%s)", x.Addr, t.Error))
	default:
		f.Verdict, f.Means = Bad, "Something stands in between: agents refuse it."
		found = append(found, fmt.Sprintf("TCP to %s in %s, then %s", x.Addr, ms(t.RTT), t.words()))
	}
	for _, s := range x.STUN {
		switch {
		case s.Observed.IsValid():
			found = append(found, fmt.Sprintf("STUN %s in %s", s.At, ms(s.RTT)))
		case s.Error != "":
			found = append(found, fmt.Sprintf("STUN %s: %s", s.Server, s.Error))
		default:
			found = append(found, fmt.Sprintf("STUN %s: no answer", s.At))
		}
	}
	f.Found = strings.Join(found, "; ")
	return f
}

func (t *TLSReport) words() string {
	switch t.State {
	case TLSIntercepted:
		return "a certificate of " + t.Issuer
	case TLSRewritten:
		return "a handshake without the relay's protocol"
	}
	return "no TLS (" + t.Error + ")"
}

// port443 is what becomes of TLS, for the port that firewalls let out when they let out
// nothing else.
func (r *Report) port443() Finding {
	f := Finding{Check: "TLS on 443", Verdict: Unknown, Found: "no relay on port 443 was asked",
		Means: "What this network does to TLS on 443 cannot be told; a relay that listens there would also pass firewalls that let out nothing else."}
	untouched, touched := "", r.touched()
	for _, x := range r.Relays {
		on443 := strings.HasSuffix(x.Addr, ":443")
		switch {
		case on443 && x.TLS.State.reached():
			untouched = x.Addr
		case on443 && x.TLS.State == TLSBlocked && untouched == "":
			f = Finding{f.Check, Bad, "blocked to " + x.Addr, "Relays there cannot be reached."}
		}
	}
	switch {
	case touched != "":
		return Finding{f.Check, Bad, "touched at " + touched, "A middlebox ends TLS here; it would see who talks to a relay and never what, so agents refuse. Have the relays' addresses excepted from inspection."}
	case untouched != "":
		return Finding{f.Check, Good, "untouched to " + untouched, "Relays on 443 work from here."}
	}
	return f
}

// touched names a relay in whose place something else answered TLS; empty is none.
func (r *Report) touched() string {
	for _, x := range r.Relays {
		if s := x.TLS.State; s == TLSIntercepted || s == TLSRewritten || s == TLSBroken {
			return x.Addr + ": " + x.TLS.words()
		}
	}
	return ""
}

func (r *Report) portal() Finding {
	f := Finding{Check: "captive portal", Verdict: Good, Found: "none", Means: ""}
	switch {
	case r.Portal.State == PortalFound, r.Portal.State == PortalUnclear && !r.reachesRelay():
		return Finding{f.Check, Bad, r.Portal.Detail, "Sign in to this network first, with a browser."}
	case r.Portal.State == PortalUnclear:
		return Finding{f.Check, Good, "a page answers at " + r.Portal.URL + ", and the relays are reached", "No portal stands in the way."}
	case r.Portal.State == PortalSkipped:
		return Finding{f.Check, Unknown, "not looked for", "Name a page that answers 204 with --portal-url."}
	}
	if r.Portal.Detail != "" {
		f.Found += ": " + r.Portal.Detail
	}
	return f
}

func (r *Report) proxy() Finding {
	f := Finding{Check: "HTTP proxy", Verdict: Good}
	switch p := r.Proxy; {
	case p.URL == "":
		f.Found = "none in the environment"
	case p.Ignored:
		f.Found = p.URL + ", not for these relays (NO_PROXY)"
	case p.Works:
		f.Found, f.Means = p.URL+" connects to a relay", "Relays are reached through it where the straight way is shut."
	case p.Error != "":
		f.Verdict, f.Found, f.Means = Bad, p.URL+": "+p.Error, "It must allow CONNECT to the relays' port."
	default:
		f.Found = p.URL + ", not needed"
	}
	return f
}

func (r *Report) reachesRelay() bool {
	for _, x := range r.Relays {
		if x.TLS.State.reached() {
			return true
		}
	}
	return false
}

// Nearest is the least time to a relay that is reached, by STUN or else by TCP.
func (r *Report) Nearest() (id string, rtt time.Duration, ok bool) {
	for _, x := range r.Relays {
		if !x.TLS.State.reached() {
			continue
		}
		d := x.TLS.RTT
		for _, s := range x.STUN {
			if s.RTT > 0 && (d == 0 || s.RTT < d) {
				d = s.RTT
			}
		}
		if !ok || d < rtt {
			id, rtt, ok = string(x.ID), d, true
		}
	}
	return id, rtt, ok
}

// Summary is what it all means.
func (r *Report) Summary() string {
	otherwise := "there is no relay to fall back to"
	id, rtt, relayed := r.Nearest()
	if relayed {
		otherwise = fmt.Sprintf("falls back to relay %s with %s", id, ms(rtt))
	}
	if !r.UDP() {
		switch {
		case r.portal().Verdict == Bad:
			return "Nothing of the overlay gets out: a captive portal answers in the place of the relays. Sign in with a browser, then ask again."
		case relayed && r.Proxy.Works && !r.straight():
			return fmt.Sprintf("No direct paths: UDP is blocked, and TCP as well. Everything goes through the HTTP proxy to relay %s.", id)
		case relayed:
			return fmt.Sprintf("No direct paths by UDP: it is blocked. Systems that take peers by TCP (agent --listen-tcp) are reached directly; everything else goes over relay %s with %s.", id, ms(rtt))
		case r.touched() != "":
			return "Nothing of the overlay gets out: UDP is blocked, and something in between answers TLS in the place of the relays."
		}
		return "Nothing of the overlay gets out: no relay answers by UDP or by TCP. Systems on this network can still meet."
	}
	var direct string
	switch r.Mapping {
	case MapNone:
		direct = "Direct paths work with systems without NAT and behind NATs that keep one mapping; with others, unless a firewall here filters by port"
	case MapIndependent:
		direct = "Direct paths work with systems without NAT and behind NATs that keep one mapping, as this one does; with others, unless the NAT here filters by port"
	case MapByAddress, MapByPort, MapDependent:
		direct = "Direct paths work only with systems whose network lets in any port of an address, or any address"
	default:
		direct = "Direct paths can be tried; how many work depends on the NAT's mapping, which is not known"
	}
	if r.IPv6.Answered > 0 && r.IPv4.Asked > 0 {
		direct += "; by IPv6 with any that has it"
	}
	return direct + "; " + otherwise + "."
}

// straight reports whether a relay is reached without the proxy.
func (r *Report) straight() bool {
	for _, x := range r.Relays {
		if x.TLS.State.reached() && x.TLS.Via == "" {
			return true
		}
	}
	return false
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
