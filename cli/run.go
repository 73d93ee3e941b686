package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/agent/portmap"
	"enclave/agent/proxy"
	"enclave/agent/tunnel"
	"enclave/cli/node"
	"enclave/store"
)

// untilSignal returns a context that ends at Ctrl-C or SIGTERM. A second signal
// ends the process the hard way.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// unlessStopped is the error of a start that a signal has ended: none, because ending is
// what was asked for, and every start goes on where one before it has stopped.
func (a *app) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	a.logger().Info("ended before it was up", "why", err)
	return nil
}

// agentFile and relayFile are what an agent and a relay remember.
const (
	agentFile = "agent.json"
	relayFile = "relay.json"
)

// inFile names the file of a state that is damaged, which its owner is told to move.
func inFile(file string, err error) error {
	if errors.Is(err, agent.ErrDamaged) || errors.Is(err, node.ErrDamaged) {
		return fmt.Errorf("%s: %w", file, err)
	}
	return err
}

// agentFlags are the flags of `agent`.
type agentFlags struct {
	control, fingerprint, keyFile, name string
	exposes, forwards                   []string
	socks, httpProxy, dns               string
	proxyAuth                           string
	port                                uint16
	mtu, predict, spray                 int
	portMapping                         bool
	listenTCP                           string
	netstack                            string
	unseal                              unsealFlags
}

func (a *app) agent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{Use: "agent", Short: "Run one system of the overlay, in user space",
		Long: `Runs one system of the overlay as an ordinary process, without root. It enrols with a
key the first time and keeps its identity in --state; the key is not needed again.
Local programs reach the overlay through the proxies and forwards, by the names
NAME.enclave and ID.id.enclave; the overlay reaches local services through --expose.
It reaches control and relays through the HTTP proxy that HTTPS_PROXY names, if any, and
where only the web passes, in the shape of a WebSocket; NO_PROXY names exceptions.
It goes on without the control plane for as long as its map counts, and ends with exit
code 4 when it is revoked.`,
		Example: `  enclave agent --state web --control https://127.0.0.1:8443 --ca-fingerprint sha256:… --key-file key --name web --expose 8080=127.0.0.1:9000
  enclave agent --state laptop … --name laptop --socks 127.0.0.1:1080 --forward 127.0.0.1:5432=db.enclave:5432`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error { return a.runAgent(c.Context(), &f) }}
	fl := c.Flags()
	fl.StringVar(&f.control, "control", "", "`URL` of the control plane, https://host:port (default $ENCLAVE_CONTROL)")
	fl.StringVar(&f.fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, `SHA256`, as \"enclave up\" prints it (default $ENCLAVE_CA_FINGERPRINT)")
	fl.StringVar(&f.keyFile, "key-file", "", "`FILE` with the secret of an enrolment key; needed the first time only (or $ENCLAVE_ENROLMENT_KEY)")
	fl.StringVar(&f.name, "name", "", "`NAME` of this system (default the host's name)")
	fl.StringArrayVar(&f.exposes, "expose", nil, "offer a local service, `PORT=HOST:PORT[/udp]`; may be given several times")
	fl.StringArrayVar(&f.forwards, "forward", nil, "bring a remote service here, `LISTEN=NAME:PORT[/udp]`; may be given several times")
	fl.StringVar(&f.socks, "socks", "", "listen on `HOST:PORT` as a SOCKS5 proxy into the overlay (TCP and UDP)")
	fl.StringVar(&f.httpProxy, "http-proxy", "", "listen on `HOST:PORT` as an HTTP proxy into the overlay")
	fl.StringVar(&f.dns, "dns", "", "answer DNS on `HOST:PORT` of this machine, for the names that this system may know; a loopback address")
	fl.StringVar(&f.proxyAuth, "proxy-auth-file", "", "`FILE` with user:password that both proxies then ask for")
	fl.Uint16Var(&f.port, "port", 0, "UDP `PORT` of WireGuard (default any)")
	fl.IntVar(&f.spray, "spray", 0, "try up to `N` random ports (at most 1024) of a peer whose NAT maps by destination, or open up to 256 sockets where ours does; both sides must say so")
	fl.IntVar(&f.predict, "predict-ports", 0, "guess up to `N` ports (at most 256) of a peer whose NAT maps by destination and counts upwards")
	fl.StringVar(&f.listenTCP, "listen-tcp", "", "take peers at `HOST:PORT` by TCP, those to whom UDP does not pass and nobody else")
	fl.BoolVar(&f.portMapping, "port-mapping", false, "ask the router for an open UDP port (PCP, NAT-PMP, UPnP-IGD), so that peers behind hard NATs reach this system directly")
	fl.IntVar(&f.mtu, "mtu", 0, "size of the overlay's packets in `BYTES` (default 1280)")
	fl.StringVar(&f.netstack, "netstack", string(tunnel.Enclave), "user-space TCP/IP `STACK`: enclave, or stock for wireguard-go's own")
	f.unseal.flags(c)
	c.AddCommand(a.agentStatus())
	return completing(c, map[string]completion{"netstack": words(stacks()...)})
}

// stacks are what --netstack takes.
func stacks() (out []string) {
	for _, n := range tunnel.Netstacks() {
		out = append(out, string(n))
	}
	return out
}

func (a *app) runAgent(ctx context.Context, f *agentFlags) error {
	if err := tunnel.Netstack(f.netstack).Check(); err != nil {
		return usage("--%v", err)
	}
	services, err := f.services()
	if err != nil {
		return err
	}
	if err := checkListenTCP(f.listenTCP); err != nil {
		return err
	}
	dir, err := a.ownState()
	if err != nil {
		return err
	}
	if err := agent.CheckLocal(dir); err != nil {
		return err
	}
	_, fresh := os.Stat(filepath.Join(dir, agentFile)) // a state knows whom it follows
	if fresh != nil && first(f.control, a.Getenv("ENCLAVE_CONTROL")) == "" {
		return usage("no control plane to follow: --control is missing").
			hint("pass --control https://HOST:PORT and --ca-fingerprint as \"enclave up\" printed them, or set ENCLAVE_CONTROL and ENCLAVE_CA_FINGERPRINT")
	}
	lock, err := store.LockDir(dir, "agent")
	if err != nil {
		return err
	}
	defer lock.Close()
	ids, err := a.identitiesUntil(ctx, &f.unseal)
	if err != nil {
		return a.unlessStopped(ctx, err)
	}
	keeper := &node.Keeper{Dir: dir, File: agentFile, Identities: ids, Damaged: agent.ErrDamaged}
	host, _ := os.Hostname() // for people only
	cfg := agent.Config{
		Name: first(f.name, nameFrom(host)), Control: first(f.control, a.Getenv("ENCLAVE_CONTROL")),
		Fingerprint: first(f.fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT")),
		Keeper:      keeper, Network: link.System(), Version: build().Version, Hostname: host,
		Proxy: a.proxies().ProxyFunc(),
		MTU:   f.mtu, Port: f.port, Predict: f.predict, Spray: f.spray, ListenTCP: f.listenTCP, Netstack: tunnel.Netstack(f.netstack), Logger: a.logger(), Key: a.enrolmentKey(f.keyFile),
	}
	if u, err := url.Parse(cfg.Control); err == nil {
		ip := net.ParseIP(u.Hostname())
		cfg.Loopback = u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
	}
	if f.portMapping {
		cfg.Mapper = new(portmap.Router)
	}
	ag, err := agent.New(cfg)
	if err != nil {
		return inFile(filepath.Join(dir, agentFile), err)
	}
	if err := keeper.Settle(); err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ag.Run(ctx) })
	g.Go(func() error { return ag.ServeLocal(ctx, dir) })
	g.Go(func() error { return ag.Serve(ctx, services) })
	g.Go(func() error { node.Lean(ctx); return nil })
	return g.Wait()
}

// checkListenTCP judges the form of --listen-tcp; whether it can be had is seen later.
func checkListenTCP(at string) error {
	if at == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(at)
	if err == nil && host != "" {
		_, err = netip.ParseAddr(host)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return usage("--listen-tcp %q: want HOST:PORT with an address of this machine, or :PORT for all of them", at)
	}
	return nil
}

// nameFrom makes a DNS label of a host name, for a system that was given none.
func nameFrom(host string) string {
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	return strings.Trim(strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') || r == '-' {
			return r
		}
		return '-'
	}, host), "-")
}

// services reads the flags that say how local programs and the overlay meet.
func (f *agentFlags) services() (agent.Services, error) {
	var s agent.Services
	for _, p := range []struct {
		flag, text string
		at         *netip.AddrPort
	}{{"--socks", f.socks, &s.SOCKS}, {"--http-proxy", f.httpProxy, &s.HTTPProxy}} {
		if p.text == "" {
			continue
		}
		at, err := proxy.ParseListen(p.text)
		if err != nil {
			return s, usage("%s: %v", p.flag, err)
		}
		if !at.Addr().IsLoopback() && f.proxyAuth == "" {
			return s, usage("%s %s: whoever reaches that address could act as this system", p.flag, p.text).
				hint("listen on 127.0.0.1, or add --proxy-auth-file with user:password")
		}
		*p.at = at
	}
	if f.dns != "" {
		at, err := proxy.ParseListen(f.dns)
		if err != nil {
			return s, usage("--dns: %v", err)
		}
		if !at.Addr().IsLoopback() {
			return s, usage("--dns %s: its answers are this system's own: whoever reaches that address would learn whom it may reach", f.dns).
				hint("listen on 127.0.0.1")
		}
		s.DNS = at
	}
	if f.proxyAuth != "" {
		text, err := readSecret(f.proxyAuth)
		if err != nil {
			return s, err
		}
		user, password, ok := strings.Cut(text, ":")
		if !ok || user == "" || password == "" {
			return s, usage("--proxy-auth-file %s: want user:password on one line", f.proxyAuth)
		}
		s.Auth = &proxy.Auth{User: user, Password: password}
	}
	for _, text := range f.exposes {
		e, err := proxy.ParseExpose(text)
		if err != nil {
			return s, usage("--expose: %v", err)
		}
		s.Exposes = append(s.Exposes, e)
	}
	for _, text := range f.forwards {
		fw, err := proxy.ParseForward(text)
		if err != nil {
			return s, usage("--forward: %v", err)
		}
		s.Forwards = append(s.Forwards, fw)
	}
	return s, nil
}

// enrolmentKey reads the secret when it is needed.
func (a *app) enrolmentKey(file string) func() (string, error) {
	if file == "" && a.Getenv("ENCLAVE_ENROLMENT_KEY") == "" {
		return nil
	}
	return func() (string, error) {
		if file == "" {
			return a.Getenv("ENCLAVE_ENROLMENT_KEY"), nil
		}
		return readSecret(file)
	}
}
