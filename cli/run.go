package cli

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/agent/link"
	"enclave/agent/proxy"
	"enclave/store"
)

// untilSignal returns a context that ends at Ctrl-C or SIGTERM. A second signal
// ends the process the hard way.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// agentFlags are the flags of `agent`.
type agentFlags struct {
	control, fingerprint, keyFile, name string
	exposes, forwards                   []string
	socks, httpProxy                    string
	proxyAuth                           string
	port                                uint16
	mtu                                 int
}

func (a *app) agent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{Use: "agent", Short: "Run one system of the overlay, in user space",
		Example: `  enclave agent --state web --control https://127.0.0.1:8443 --ca-fingerprint sha256:… --key-file key --name web --expose 8080=127.0.0.1:9000
  enclave agent --state laptop … --name laptop --socks 127.0.0.1:1080 --forward 127.0.0.1:5432=db.enclave:5432`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error { return a.runAgent(c.Context(), &f) }}
	fl := c.Flags()
	fl.StringVar(&f.control, "control", "", "address of the control plane: https://host:port (default $ENCLAVE_CONTROL)")
	fl.StringVar(&f.fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, as \"enclave up\" prints it (default $ENCLAVE_CA_FINGERPRINT)")
	fl.StringVar(&f.keyFile, "key-file", "", "file with the secret of an enrolment key; needed the first time only (or $ENCLAVE_ENROLMENT_KEY)")
	fl.StringVar(&f.name, "name", "", "name of this system (default the host's name)")
	fl.StringArrayVar(&f.exposes, "expose", nil, "offer a local service: PORT=HOST:PORT[/udp]; may be given several times")
	fl.StringArrayVar(&f.forwards, "forward", nil, "bring a remote service here: LISTEN=NAME:PORT[/udp]; may be given several times")
	fl.StringVar(&f.socks, "socks", "", "listen here as a SOCKS5 proxy into the overlay")
	fl.StringVar(&f.httpProxy, "http-proxy", "", "listen here as an HTTP proxy into the overlay")
	fl.StringVar(&f.proxyAuth, "proxy-auth-file", "", "file with user:password that both proxies then ask for")
	fl.Uint16Var(&f.port, "port", 0, "UDP port of WireGuard (default any)")
	fl.IntVar(&f.mtu, "mtu", 0, "size of the overlay's packets in bytes (default 1280)")
	c.AddCommand(a.agentStatus())
	return c
}

func (a *app) runAgent(ctx context.Context, f *agentFlags) error {
	services, err := f.services()
	if err != nil {
		return err
	}
	dir, err := a.stateDir()
	if err != nil {
		return err
	}
	lock, err := store.LockDir(dir, "agent")
	if err != nil {
		return err
	}
	defer lock.Close()
	host, _ := os.Hostname() // for people only
	cfg := agent.Config{
		Name: first(f.name, nameFrom(host)), Control: first(f.control, a.Getenv("ENCLAVE_CONTROL")),
		Fingerprint: first(f.fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT")),
		Keeper:      agent.FileKeeper(filepath.Join(dir, "agent.json")), Network: link.System(), Version: build().Version, Hostname: host,
		MTU: f.mtu, Port: f.port, Logger: a.logger(), Key: a.enrolmentKey(f.keyFile),
	}
	if u, err := url.Parse(cfg.Control); err == nil {
		ip := net.ParseIP(u.Hostname())
		cfg.Loopback = u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
	}
	ag, err := agent.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return ag.Run(ctx) })
	g.Go(func() error { return ag.ServeLocal(ctx, dir) })
	g.Go(func() error { return ag.Serve(ctx, services) })
	return g.Wait()
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
		*p.at = at
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
