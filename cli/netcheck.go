package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpproxy"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/agent/netcheck"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// netcheckFlags are the flags of netcheck.
type netcheckFlags struct {
	relays, stun         []string
	control, fingerprint string
	portal               string
}

func (a *app) netcheck() *cobra.Command {
	var f netcheckFlags
	c := &cobra.Command{Use: "netcheck", Short: "Say what paths the network here allows, and why",
		Long: `Looks at the network that this machine stands on: UDP, IPv4 and IPv6, how a NAT maps and
whether it turns packets back, what becomes of TLS, a captive portal, an HTTP proxy, and
each relay with its latency. Each comes with what it means.

The relays are those of the agent that runs on --state, else those that the API knows,
else what --relay, --stun and --control name: a machine that is not enrolled can ask them,
too. Without --ca-fingerprint it cannot tell the real relay from an impostor, and says so.
Nothing is changed and nothing secret sent. The exit code is 6 when no relay can be
reached in any way.`,
		Example: "  enclave netcheck --state laptop\n  enclave netcheck --control https://192.0.2.7:443 --ca-fingerprint sha256:… --stun 192.0.2.7:3478 --stun 192.0.2.8:3479",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runNetcheck(ctx, &f)
		}}
	fl := c.Flags()
	fl.StringArrayVar(&f.relays, "relay", nil, "`HOST:PORT` of a relay's TLS; may be given several times")
	fl.StringArrayVar(&f.stun, "stun", nil, "`HOST:PORT` that answers STUN; may be given several times, best with two addresses and two ports")
	fl.StringVar(&f.control, "control", "", "`URL` of a control plane, https://host:port; STUN is asked at udp/3478 of the same host unless --stun says where")
	fl.StringVar(&f.fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, `SHA256` (default $ENCLAVE_CA_FINGERPRINT, else the context file's)")
	fl.StringVar(&f.portal, "portal-url", "", "`URL` of a page by plain HTTP that answers 204 (default the first relay's host, where none is expected)")
	return c
}

// netcheckResult is what netcheck prints under --json.
type netcheckResult struct {
	Summary  string             `json:"summary"`
	Findings []netcheck.Finding `json:"findings"`
	Report   *netcheck.Report   `json:"report"`
}

// proxies are those of the environment. Upper case wins, as for other programs.
func (a *app) proxies() *httpproxy.Config {
	return &httpproxy.Config{
		HTTPProxy: first(a.Getenv("HTTP_PROXY"), a.Getenv("http_proxy")), HTTPSProxy: first(a.Getenv("HTTPS_PROXY"), a.Getenv("https_proxy")),
		NoProxy: first(a.Getenv("NO_PROXY"), a.Getenv("no_proxy")),
	}
}

func (a *app) runNetcheck(ctx context.Context, f *netcheckFlags) error {
	t, err := a.netTargets(ctx, f)
	if err != nil {
		return err
	}
	proxies := a.proxies()
	cfg := netcheck.Config{Network: link.System(), Relays: t.relays, Trust: t.trust,
		PortalURL: f.portal, Proxy: proxies.ProxyFunc(), ProxySet: redacted(proxies.HTTPSProxy)}
	if !a.json && a.ErrTerminal {
		fmt.Fprintf(a.Err, "asking %s…\n", wire.Count(len(t.relays), "relay"))
	}
	r, err := netcheck.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if t.note != "" {
		r.Notes = append(r.Notes, t.note)
	}
	if t.agent != nil {
		r.Agent = &t.agent.Reach
	}
	out := netcheckResult{r.Summary(), r.Findings(), r}
	if err := a.print(out, func(w io.Writer) { netcheckText(w, &out) }); err != nil {
		return err
	}
	if _, _, reached := r.Nearest(); !reached && !r.UDP() {
		return (&failure{exit: exitTryAgain, Code: "unreachable", Message: "no relay can be reached from here"}).
			hint("compare with the same command on another network; is the relay running?")
	}
	return nil
}

// netTargets are whom to ask, and what tells them from impostors.
type netTargets struct {
	relays []netcheck.Target
	trust  *svid.Trust
	note   string           // why there is no trust
	agent  *api.AgentStatus // of the agent that was asked for them
}

// netTargets finds whom to ask: the flags, the agent on the state, the API.
func (a *app) netTargets(ctx context.Context, f *netcheckFlags) (t netTargets, err error) {
	if len(f.relays)+len(f.stun) > 0 || f.control != "" {
		if t.relays, err = f.targets(); err == nil {
			err = a.netTrust(ctx, &t, f.fingerprint, f.control)
		}
		return t, err
	}
	l, err := a.local()
	if err != nil {
		return t, err
	}
	s, err := l.Status(ctx)
	if err == nil && s.Network != nil && len(s.Network.Relays) > 0 {
		t.agent = &s
		for _, r := range s.Network.Relays {
			t.relays = append(t.relays, netcheck.Target{ID: r.ID, Kind: svid.KindRelay, Addr: r.Addr, STUN: r.STUN})
		}
		trust, err := l.Trust(ctx)
		t.trust = &trust
		return t, err
	}
	if err != nil && !errors.Is(err, agent.ErrNoAgent) {
		return t, err
	}
	cl, err := a.client()
	if err != nil {
		return t, usage("no relay to ask: no agent that has its map runs on --state, and there is no API to ask either (%v)", err).
			hint("pass --state of an agent or of \"enclave up\", or --control URL, or --relay HOST:PORT and --stun HOST:PORT")
	}
	relays, err := cl.Relays(ctx)
	if err != nil {
		return t, err
	}
	if len(relays) == 0 {
		return t, (&failure{exit: exitNotFound, Code: "no_relays", Message: "the organisation has no relay"}).
			hint("enrol one with a key of \"enclave key create --relay\", or name one with --relay and --stun")
	}
	for _, r := range relays {
		t.relays = append(t.relays, netcheck.Target{ID: r.ID, Kind: svid.KindRelay, Addr: r.Addr, STUN: r.STUN})
	}
	return t, a.netTrust(ctx, &t, f.fingerprint, "")
}

// netTrust asks the control plane for its root, where its fingerprint is known. A root of
// another fingerprint is an error; that it cannot be asked is a note.
func (a *app) netTrust(ctx context.Context, t *netTargets, fingerprint, control string) error {
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	beside, _ := readContext(dir)
	fingerprint = first(fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT"), beside.Fingerprint)
	u, err := url.Parse(first(control, a.url, a.Getenv("ENCLAVE_URL"), beside.URL))
	switch {
	case fingerprint == "":
		return nil
	case err != nil || u.Hostname() == "":
		t.note = "no control plane is named that could be asked for the root, so relays are not verified"
		return nil
	}
	t.trust, err = netcheck.TrustOf(ctx, link.System(), net.JoinHostPort(u.Hostname(), first(u.Port(), "443")), fingerprint)
	if err != nil {
		t.note = fmt.Sprintf("the root cannot be had from %s, so relays are not verified: %v", u.Host, err)
	}
	return nil
}

// defaultSTUN is where a control plane's host is asked when nothing else is said, as
// "enclave up" has it.
const defaultSTUN = "3478"

// targets are those that the flags name. STUN servers belong to the first.
func (f *netcheckFlags) targets() (out []netcheck.Target, err error) {
	for i, addr := range f.relays {
		if _, _, err := hostPort("--relay", addr); err != nil {
			return nil, err
		}
		out = append(out, netcheck.Target{ID: wire.RelayID("relay" + num(i+1)), Kind: svid.KindRelay, Addr: addr})
	}
	for _, addr := range f.stun {
		if _, _, err := hostPort("--stun", addr); err != nil {
			return nil, err
		}
	}
	stun := f.stun
	if f.control != "" {
		u, err := url.Parse(f.control)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return nil, usage("--control %.80q: want https://host:port", f.control)
		}
		addr := net.JoinHostPort(u.Hostname(), first(u.Port(), "443"))
		out = append(out, netcheck.Target{ID: "control", Kind: svid.KindControl, Addr: addr})
		if len(stun) == 0 {
			stun = []string{net.JoinHostPort(u.Hostname(), defaultSTUN)}
		}
	}
	if len(out) == 0 {
		out = []netcheck.Target{{ID: "stun", Kind: svid.KindRelay}}
	}
	out[0].STUN = stun
	return out, nil
}

// redacted is a proxy's URL without its password.
func redacted(proxy string) string {
	if proxy == "" {
		return ""
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" {
		return "set"
	}
	u.User = nil
	return u.String()
}

func netcheckText(w io.Writer, r *netcheckResult) {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Check))
	}
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-7s  %-*s  %s\n", f.Verdict, width, f.Check, clean(orDash(f.Found)))
		if f.Means != "" {
			fmt.Fprintf(w, "%s%s\n", strings.Repeat(" ", 7+2+width+2), clean(f.Means))
		}
	}
	if g := r.Report.Agent; g != nil {
		fmt.Fprintf(w, "%-7s  %-*s  it sees the NAT as %s, and relay %s is its home\n", "", width, "the agent", orDash(g.NAT), orDash(string(g.Relay)))
	}
	for _, n := range r.Report.Notes {
		fmt.Fprintf(w, "note: %s\n", clean(n))
	}
	fmt.Fprintf(w, "\n%s\n", clean(r.Summary))
}
