package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/passage"
	"enclave/relay"
	"enclave/store"
	"enclave/store/seal"
)

// tokenFile is where the first administrator's token is kept.
const tokenFile = "admin.token"

// serverFlags are the flags of up and control.
type serverFlags struct {
	listen, url       string
	stun, tellSTUN    []string // of up only
	mapLife, svidLife time.Duration
	countries         string
	unseal            unsealFlags
	backups           node.BackupPlan
}

func (f *serverFlags) flags(c *cobra.Command) *cobra.Command {
	fl := c.Flags()
	f.unseal.flags(c)
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8443", "`HOST:PORT` of the API and of the agents' connections; port 0 is any")
	fl.StringVar(&f.url, "advertise", "", "`URL` by which agents reach it, https://host:port (default from --listen)")
	fl.StringVar(&f.countries, "countries", "", "`FILE` with lines of range,country, by which trust requirements tell the country of an address")
	fl.DurationVar(&f.mapLife, "map-life", 0, "how long agents go on without word from control; counts when the organisation is made (default 24h)")
	fl.DurationVar(&f.backups.Every, "backup-every", 0, "make a backup of the state so often, such as 24h; 0 makes none")
	fl.IntVar(&f.backups.Keep, "backup-keep", 7, "how many of those backups to keep")
	fl.StringVar(&f.backups.Dir, "backup-dir", "", "`DIR` for backups, best on another disk (default "+store.BackupDir+" in the state)")
	fl.DurationVar(&f.svidLife, "svid-life", 0, "life of identities; counts when the organisation is made (default 24h)")
	return c
}

// open listens, and says by which address agents reach that.
func (f *serverFlags) open() (net.Listener, string, error) {
	host, _, err := hostPort("--listen", f.listen)
	if err != nil {
		return nil, "", err
	}
	if u, err := url.Parse(f.url); f.url != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "") {
		return nil, "", usage("--advertise %.80q: want https://host:port", f.url)
	}
	if f.url == "" && everyAddress(host) {
		return nil, "", usage(noAddressToTell, f.listen).hint("add --advertise https://HOST:PORT")
	}
	told, flag := host, "--listen"
	if f.url != "" {
		u, _ := url.Parse(f.url) // as above
		told, flag = u.Hostname(), "--advertise"
	}
	if err := toldOthers(flag, told); err != nil {
		return nil, "", err
	}
	l, err := passage.ListenTCP(f.listen)
	if err != nil || f.url != "" {
		return l, f.url, err
	}
	return l, "https://" + net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
}

// hostPort splits the value of a flag; the port may be 0, for any.
func hostPort(flag, s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", "", usage("%s %.80q: want host:port, for example 127.0.0.1:8443", flag, s)
	}
	return host, port, nil
}

// hostPorts checks the values of a flag that may be given several times.
func hostPorts(flag string, list []string) error {
	for _, s := range list {
		if _, _, err := hostPort(flag, s); err != nil {
			return err
		}
	}
	return nil
}

// firstLine is what `up --json` prints first.
type firstLine struct {
	URL          string `json:"url"`
	TokenFile    string `json:"token_file"`
	Fingerprint  string `json:"ca_fingerprint"`
	EnrolmentKey string `json:"enrolment_key,omitempty"` // the first, until somebody has enrolled with it
	IdentityFile string `json:"identity_file,omitempty"` // opens the state, and lies in it
	Converted    bool   `json:"sealed_now,omitempty"`    // the state was in clear until this start
}

func (a *app) up() *cobra.Command {
	var f serverFlags
	c := f.flags(&cobra.Command{Use: "up", Short: "Run control plane and relay on this machine",
		Long: `Runs the control plane and a relay in one process on one TCP port, and STUN on UDP. The
first start makes the organisation, prints the fingerprint of its root and an enrolment
key, and leaves the administrator's token and a context file in --state, by which the
other verbs find the API. Later starts print that key again until somebody has enrolled
with it, or it was deleted.`,
		Example: "  enclave up --state lab --listen 127.0.0.1:8443 --stun 127.0.0.1:3478",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runUp(ctx, &f)
		}})
	c.Flags().StringArrayVar(&f.stun, "stun", nil, "`HOST:PORT` that answers STUN; give two addresses and two ports to learn a NAT's kind (default port "+stunPort+" beside --listen)")
	c.Flags().StringArrayVar(&f.tellSTUN, "advertise-stun", nil, "`HOST:PORT` by which agents reach STUN (default --stun, with the host of --advertise where it takes every address); may be given several times")
	return c
}

func (a *app) runUp(ctx context.Context, f *serverFlags) error {
	dir, err := a.ownState()
	if err != nil {
		return err
	}
	l, url, err := f.open()
	if err != nil {
		return err
	}
	defer l.Close()
	if err := hostPorts("--advertise-stun", f.tellSTUN); err != nil {
		return err
	}
	at := f.stun
	if len(at) == 0 {
		host, _, _ := net.SplitHostPort(f.listen) // that open has read
		at = []string{net.JoinHostPort(host, stunPort)}
	}
	stun, err := listenSTUN(at)
	if err != nil {
		return err
	}
	defer closeAll(stun)
	ids, err := a.identitiesUntil(ctx, &f.unseal)
	if err != nil {
		return a.unlessStopped(ctx, err)
	}
	cfg := node.UpConfig{
		Control: a.controlConfig(dir, url, l, f, ids),
		Relay: node.RelayConfig{Name: "here", Keeper: &node.Keeper{Dir: dir, File: relayFile, Identities: ids, Damaged: node.ErrDamaged},
			// Control goes down with it, so nobody is told of another relay to move to.
			Drain: 100 * time.Millisecond,
			Dial:  (&net.Dialer{}).DialContext, STUN: stun, Version: build().Version, Logger: a.logger().With("part", "relay")},
	}
	cfg.Relay.Info.Addr = url[len("https://"):]
	cfg.Relay.Info.STUN = a.tellSTUN(f.tellSTUN, stun, cfg.Relay.Info.Addr)
	if err := notEmptied(dir); err != nil {
		return err
	}
	u, err := node.OpenUp(ctx, cfg)
	if err != nil {
		return a.unlessStopped(ctx, inFile(filepath.Join(dir, relayFile), err))
	}
	if err := a.announce(dir, url, u.Control); err != nil {
		return errors.Join(err, u.Close())
	}
	return u.Run(ctx)
}

// notEmptied refuses a state whose database is gone or empty although an organisation has
// lived in it: a start would make another one, which no agent believes, and take the
// administrator's token of the first.
func notEmptied(dir string) error {
	c, err := readContext(dir)
	if err != nil || c.Fingerprint == "" {
		return nil // none, or one that is written anew
	}
	db := filepath.Join(dir, store.DatabaseName)
	if kind, err := seal.Look(db); err != nil || kind != seal.Empty {
		return nil // what is wrong with it, its opener says
	}
	return fmt.Errorf("%w: %s is empty or gone, and %s tells of the organisation %s in it; to begin anew, choose another --state", store.ErrDamaged, db, contextFile, c.Fingerprint)
}

func (a *app) controlConfig(dir, url string, l net.Listener, f *serverFlags, ids []seal.Identity) node.ControlConfig {
	return node.ControlConfig{Dir: dir, URL: url, Identities: ids, Listener: l, MapLife: f.mapLife, SVIDLife: f.svidLife, CountryFile: f.countries, Backups: f.backups,
		Version: build().Version, Logger: a.logger().With("part", "control"),
		KeepFirst: func(first *node.First) error {
			return writeFile(filepath.Join(dir, tokenFile), []byte(first.Token+"\n"))
		}}
}

// announce leaves the context file and prints what the next commands need.
func (a *app) announce(dir, url string, c *node.Control) error {
	if err := writeContext(dir, apiContext{URL: url, TokenFile: tokenFile, Fingerprint: c.Fingerprint()}); err != nil {
		return err
	}
	line := firstLine{URL: url, TokenFile: filepath.Join(dir, tokenFile), Fingerprint: c.Fingerprint(), EnrolmentKey: c.EnrolmentKey()}
	how := c.Sealed()
	line.IdentityFile, line.Converted = besideState(dir, how.Opened), how.Converted
	if a.json {
		return json.NewEncoder(a.Out).Encode(line)
	}
	a.printf("Enclave is up at %s; Ctrl-C ends it\n", line.URL)
	a.printf("  administrator's token   %s\n  root fingerprint        %s\n", line.TokenFile, line.Fingerprint)
	a.tellSeal(dir, how.Opened, how.Converted)
	if line.EnrolmentKey == "" {
		a.printf("Enrol more systems with a key: enclave key create --name NAME --state %s\n", dir)
		return nil
	}
	a.printf("  first enrolment key     %s   (shown until it is used; approves automatically)\n\n", line.EnrolmentKey)
	a.printf("Next, in other terminals, with that key in a file named key:\n")
	for _, name := range []string{"web --expose 8080=127.0.0.1:9000", "laptop --socks 127.0.0.1:1080"} {
		a.printf("  enclave agent --state %s --control %s --ca-fingerprint %s --key-file key --name %s\n", firstWord(name), line.URL, line.Fingerprint, name)
	}
	a.printf("  enclave tag add web servers --state %s\n  enclave tag add laptop laptops --state %s\n", dir, dir)
	a.printf("  enclave policy create \"Web for laptops\" --from laptops --to servers --allow tcp/8080 --wait --state %s\n", dir)
	a.printf("  curl --socks5-hostname 127.0.0.1:1080 http://web.enclave:8080/\n")
	if out, ok := a.Out.(*guard); ok {
		return out.lost() // nobody has seen the key; the next start shows it again
	}
	return nil
}

func firstWord(s string) string {
	for i := range s {
		if s[i] == ' ' {
			return s[:i]
		}
	}
	return s
}

func (a *app) control() *cobra.Command {
	var f serverFlags
	return f.flags(&cobra.Command{Use: "control", Short: "Run the control plane alone",
		Long: `Runs the control plane alone. Agents need a relay to meet when no direct path exists:
enrol one with a key of "enclave key create --relay" and run "enclave relay".`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			dir, err := a.ownState()
			if err != nil {
				return err
			}
			l, url, err := f.open()
			if err != nil {
				return err
			}
			defer l.Close()
			ids, err := a.identitiesUntil(ctx, &f.unseal)
			if err != nil {
				return a.unlessStopped(ctx, err)
			}
			if err := notEmptied(dir); err != nil {
				return err
			}
			ctl, err := node.OpenControl(ctx, a.controlConfig(dir, url, l, &f, ids))
			if err != nil {
				return a.unlessStopped(ctx, err)
			}
			if err := a.announce(dir, url, ctl); err != nil {
				return errors.Join(err, ctl.Close())
			}
			return ctl.Run(ctx)
		}})
}

// relayFlags are the flags of relay.
type relayFlags struct {
	control, fingerprint, keyFile, name, listen, advertise string
	stun, advertiseSTUN                                    []string
	metrics                                                string
	drain                                                  time.Duration
	unseal                                                 unsealFlags
}

func (a *app) relay() *cobra.Command {
	var f relayFlags
	c := &cobra.Command{Use: "relay", Short: "Run a blind relay with STUN",
		Long: `Runs a relay: it carries sealed packets between systems that a policy has introduced and
that find no direct path, and answers STUN. It cannot read what it carries. It enrols with
a key of "enclave key create --relay". Several relays of one organisation are known to
every agent, which is at home at the nearest.

SIGTERM or Ctrl-C drains it: nothing new is accepted, clients are told to move to another
relay and do so while this one still carries them; it ends when the last has left, or after
--drain. A second signal ends it at once. With --json each step is a line:
{"state":"serving|draining|ended","relay":…,"clients":…}; clients at the end had nowhere to go.`,
		Example: "  enclave relay --state relay1 --control https://control:8443 --ca-fingerprint sha256:… --key-file key --listen 192.0.2.7:443 --stun 192.0.2.7:3478 --stun 192.0.2.7:3479",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runRelay(ctx, &f)
		}}
	fl := c.Flags()
	fl.StringVar(&f.control, "control", "", "`URL` of the control plane, https://host:port (default $ENCLAVE_CONTROL)")
	fl.StringVar(&f.fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, `SHA256` (default $ENCLAVE_CA_FINGERPRINT)")
	fl.StringVar(&f.keyFile, "key-file", "", "`FILE` with the secret of an enrolment key for relays; needed the first time only (or $ENCLAVE_ENROLMENT_KEY)")
	fl.StringVar(&f.name, "name", "relay", "`NAME` of this relay")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8444", "`HOST:PORT` for relay connections")
	fl.StringVar(&f.advertise, "advertise", "", "`HOST:PORT` by which agents reach it (default --listen)")
	fl.StringArrayVar(&f.stun, "stun", nil, "`HOST:PORT` that answers STUN; may be given several times")
	fl.StringArrayVar(&f.advertiseSTUN, "advertise-stun", nil, "`HOST:PORT` by which agents reach STUN (default --stun); may be given several times")
	fl.StringVar(&f.metrics, "metrics", "", "serve /metrics to Prometheus on `HOST:PORT`, in plain HTTP; they name no client and no address")
	f.unseal.flags(c)
	fl.DurationVar(&f.drain, "drain", 5*time.Second, "how long clients get at most to move to another relay when this one ends")
	return c
}

func (a *app) runRelay(ctx context.Context, f *relayFlags) error {
	dir, err := a.ownState()
	if err != nil {
		return err
	}
	host, _, err := hostPort("--listen", f.listen)
	if err != nil {
		return err
	}
	if f.advertise == "" && everyAddress(host) {
		return usage(noAddressToTell, f.listen).hint("add --advertise HOST:PORT")
	}
	told, flag := host, "--listen"
	if f.advertise != "" {
		if told, _, err = hostPort("--advertise", f.advertise); err != nil {
			return err
		}
		flag = "--advertise"
	}
	if err := toldOthers(flag, told); err != nil {
		return err
	}
	if err := hostPorts("--advertise-stun", f.advertiseSTUN); err != nil {
		return err
	}
	lock, err := store.LockDir(dir, "relay")
	if err != nil {
		return err
	}
	defer lock.Close()
	l, err := passage.ListenTCP(f.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	stun, err := listenSTUN(f.stun)
	if err != nil {
		return err
	}
	defer closeAll(stun)
	ids, err := a.identitiesUntil(ctx, &f.unseal)
	if err != nil {
		return a.unlessStopped(ctx, err)
	}
	cfg := node.RelayConfig{Control: first(f.control, a.Getenv("ENCLAVE_CONTROL")), Fingerprint: first(f.fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT")),
		Key: a.enrolmentKey(f.keyFile), Name: f.name, Keeper: &node.Keeper{Dir: dir, File: relayFile, Identities: ids, Damaged: node.ErrDamaged}, Drain: max(f.drain, time.Nanosecond),
		Dial: passage.Through((&net.Dialer{}).DialContext, a.proxies().ProxyFunc()), Listener: l, STUN: stun, Version: build().Version, Logger: a.logger()}
	cfg.Info.Addr = first(f.advertise, l.Addr().String())
	cfg.Info.STUN = a.tellSTUN(f.advertiseSTUN, stun, cfg.Info.Addr)
	if f.metrics != "" {
		if _, _, err := hostPort("--metrics", f.metrics); err != nil {
			return err
		}
		m, err := net.Listen("tcp", f.metrics)
		if err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
		defer m.Close()
		cfg.Metrics = m
	}
	cfg.Progress = a.relayProgress(cfg.Info.Addr)
	return inFile(filepath.Join(dir, relayFile), node.RunRelay(ctx, cfg))
}

func listenSTUN(addrs []string) ([]relay.PacketConn, error) {
	var out []relay.PacketConn
	for _, text := range addrs {
		if _, _, err := hostPort("--stun", text); err != nil {
			closeAll(out)
			return nil, err
		}
		at, err := net.ResolveUDPAddr("udp", text)
		if err == nil {
			var pc *net.UDPConn
			if pc, err = passage.ListenUDP(at); err == nil {
				out = append(out, pc)
				continue
			}
		}
		closeAll(out)
		return nil, fmt.Errorf("STUN: %w", err)
	}
	return out, nil
}

func closeAll(conns []relay.PacketConn) {
	for _, c := range conns {
		c.Close()
	}
}
