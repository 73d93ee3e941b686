package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/passage"
	"enclave/sandbox/script"
	"enclave/sandbox/session"
	"enclave/sandbox/tools"
	"enclave/store"
)

const (
	sandboxFile   = "sandbox.json"   // the identity of a sandbox server, sealed
	sandboxTokens = "sandbox.tokens" // who may call it
)

// errSandboxDamaged is returned for a server's state that cannot be read.
var errSandboxDamaged = errors.New("the sandbox server's state is damaged")

// serveFlags are the flags of `sandbox serve`.
type serveFlags struct {
	host              hostFlags
	listen, tokenFile string
	level             string
	sealed            bool
	tags              []string
	limits            session.Limits
	unseal            unsealFlags
	cert, key         string
	plain             bool
	reload            time.Duration
	origins           []string
	proxies           []string
}

func (a *app) sandboxServe() *cobra.Command {
	f := serveFlags{limits: session.Defaults()}
	c := &cobra.Command{Use: "serve", Short: "Serve runs over HTTP: sessions, events, replay",
		Long: `Serves runs as sessions over HTTP, in JSON lines or server-sent events. The first start
makes a token and leaves it in --state; docs/format/sandbox-session.md describes routes,
events and the token file. Clients that pin the identity printed at the start have their
sessions sealed from end to end.

The token file is looked at every second: who is taken out of it is refused from then on,
and what that token opened ends. An empty file ends everybody; one that is wrong or gone
changes nothing but the log and --audit.

Beyond loopback it serves HTTPS, with --tls-cert and --tls-key. SIGHUP has it read the tools
and the certificate again; runs that go on keep the tools they began with, and their
streams tell what changed.`,
		Example: `  enclave sandbox serve --tools tools.json --audit runs.jsonl
  enclave sandbox serve --tools tools.json --join --key-file runs.key --level SECURE
  enclave sandbox serve --tools tools.json --listen 0.0.0.0:8460 --tls-cert host.pem --tls-key host.key`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runServe(ctx, &f)
		}}
	f.host.flags(c)
	f.unseal.flags(c)
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8460", "`HOST:PORT` to serve on; beyond loopback with --tls-cert")
	fl.StringVar(&f.cert, "tls-cert", "", "`FILE` with the server's certificate and its chain, PEM: serves HTTPS")
	fl.StringVar(&f.key, "tls-key", "", "`FILE` with the certificate's private key, PEM")
	fl.BoolVar(&f.plain, "plain-http", false, "serve plain HTTP beyond loopback all the same, for a proxy that ends TLS in front")
	fl.DurationVar(&f.reload, "reload", 0, "look this often whether the files of tools and certificate have changed, and read them again (default at SIGHUP only)")
	fl.StringVar(&f.tokenFile, "token-file", "", "`FILE` of mode 0600 with a token and a user[@tenant] on each line, looked at every second (default sandbox.tokens in --state)")
	fl.StringVar(&f.level, "level", "", "the least strict `LEVEL` that a caller may ask for: STRICT, SECURE, STANDARD or PERMISSIVE (default STANDARD)")
	fl.BoolVar(&f.sealed, "require-encryption", false, "take sealed sessions only")
	fl.StringArrayVar(&f.tags, "tag", nil, "`TAG` that callers may ask for; may be given several times (default all of the key's)")
	fl.StringArrayVar(&f.origins, "allow-origin", nil, "`ORIGIN` whose pages may call, scheme://host; may be given several times (default none)")
	fl.StringArrayVar(&f.proxies, "proxy", nil, "`CIDR` of reverse proxies, whose connections are not counted: any other address has 256; may be given several times")
	fl.DurationVar(&f.limits.Lifetime, "session-life", f.limits.Lifetime, "longest life of a session")
	fl.IntVar(&f.limits.Running, "max-runs", f.limits.Running, "runs at once")
	fl.IntVar(&f.limits.TenantRuns, "max-tenant-runs", f.limits.TenantRuns, "runs at once of one tenant")
	fl.IntVar(&f.limits.Sessions, "max-sessions", f.limits.Sessions, "sessions held, ended ones included")
	_ = c.RegisterFlagCompletionFunc("level", completeLevel)
	return c
}

// serving is what `sandbox serve --json` prints first.
type serving struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file"`
	Identity  string `json:"identity"` // for clients to pin
	Level     string `json:"level"`
}

func (a *app) runServe(ctx context.Context, f *serveFlags) (err error) {
	level, err := script.ParseLevel(f.level)
	if err != nil {
		return usage("--level: %v", err)
	}
	cert, err := f.transport()
	if err != nil {
		return err
	}
	proxies, err := f.check()
	if err != nil {
		return err
	}
	dir, err := a.ownState()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := store.LockDir(dir, "sandbox")
	if err != nil {
		return err
	}
	defer lock.Close()
	identity, err := a.serverIdentity(dir, &f.unseal)
	if err != nil {
		return err
	}
	tokens, file, err := f.tokens(dir)
	if err != nil {
		return err
	}
	runner, err := a.sandboxRunner()
	if err != nil {
		return err
	}
	defer runner.Close()
	host, end, err := a.sandboxHost(ctx, &f.host, runner)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	l, err := passage.ListenTCP(f.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	hup, tokensHup := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	signal.Notify(tokensHup, syscall.SIGHUP)
	defer signal.Stop(hup)
	defer signal.Stop(tokensHup)
	cfg := session.Config{Host: host, Tokens: tokens, TokenFile: file, Again: tokensHup, Level: level, Identity: identity, Sealed: f.sealed, Tags: f.tags,
		Join: f.host.join, Origins: f.origins, Proxies: proxies, Limits: f.limits, Logger: a.logger()}
	scheme := "http://"
	if cert != nil {
		scheme, cfg.TLS = "https://", cert.config()
	}
	s := session.New(cfg)
	out := serving{scheme + l.Addr().String(), file, base64.StdEncoding.EncodeToString(identity.Public().(ed25519.PublicKey)), string(level)}
	err = a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "serving    %s\ntokens     %s\nidentity   %s\nlevel      %s and stricter\n", out.URL, out.TokenFile, out.Identity, out.Level)
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	again := &reloader{hup: hup, tools: f.host.tools, server: s, cert: cert, every: f.reload, log: a.logger().With("part", "reload"),
		open: func(ctx context.Context) (*tools.Registry, error) { return a.openTools(ctx, &f.host) }}
	under, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		again.Run(under)
	}()
	err = s.Run(ctx, l)
	stop()
	<-ended
	return err
}

// check refuses values that no server takes, before anything is opened, and reads the
// ranges of the proxies.
func (f *serveFlags) check() (proxies []netip.Prefix, err error) {
	if f.reload != 0 && f.reload < time.Second {
		return nil, usage("--reload %s: want at least 1s", f.reload)
	}
	for _, origin := range f.origins {
		if err := session.CheckOrigin(origin); err != nil {
			return nil, usage("--allow-origin %.80q: %v", origin, err)
		}
	}
	for _, text := range f.proxies {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usage("--proxy %.80q: want a range such as 10.0.0.0/24, or one address as 10.0.0.7/32", text)
		}
		proxies = append(proxies, p)
	}
	return proxies, nil
}

// tokens reads who may call, from the file of that flag or from one in the state, which
// the first start makes.
func (f *serveFlags) tokens(dir string) (*session.Tokens, string, error) {
	file := f.tokenFile
	if file == "" {
		file = filepath.Join(dir, sandboxTokens)
		if err := firstToken(file); err != nil {
			return nil, "", err
		}
	}
	tokens, err := session.ReadTokens(file)
	if err != nil {
		return nil, "", usage("%v", err)
	}
	if tokens.Accepted(time.Now()) == 0 {
		return nil, "", usage("%s: no token in it is valid, so nobody could call", file).
			hint("write a line with a token and a user into it; docs/format/sandbox-session.md describes the file")
	}
	return tokens, file, nil
}

// transport reads the certificate, and refuses to carry tokens over a network in the
// clear unless that was said.
func (f *serveFlags) transport() (*certificate, error) {
	switch {
	case (f.cert == "") != (f.key == ""):
		return nil, usage("--tls-cert and --tls-key go together")
	case f.cert != "" && f.plain:
		return nil, usage("--plain-http and --tls-cert exclude each other")
	case f.cert != "":
		c := &certificate{cert: f.cert, key: f.key}
		if err := c.read(); err != nil {
			return nil, usage("--tls-cert: %v", err)
		}
		return c, nil
	case f.plain:
		return nil, nil
	}
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return nil, usage("--listen %.80q: want HOST:PORT", f.listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usage("--listen %s: tokens and scripts would cross this network in the clear", f.listen).
			hint("pass --tls-cert and --tls-key, or --plain-http where a proxy in front ends TLS")
	}
	return nil, nil
}

// serverIdentity opens what the server is known by, which its first start makes.
func (a *app) serverIdentity(dir string, f *unsealFlags) (ed25519.PrivateKey, error) {
	ids, err := a.identities(f)
	if err != nil {
		return nil, err
	}
	keeper := &node.Keeper{Dir: dir, File: sandboxFile, Identities: ids, Damaged: errSandboxDamaged}
	identity, err := keptIdentity(keeper)
	if err != nil {
		return nil, err
	}
	return identity, keeper.Settle()
}

// keptIdentity reads the server's key, or makes one.
func keptIdentity(k *node.Keeper) (ed25519.PrivateKey, error) {
	var kept struct {
		Version  int    `json:"version"`
		Identity []byte `json:"identity"` // Ed25519 seed
	}
	raw, err := k.Load()
	switch {
	case err == nil:
		if json.Unmarshal(raw, &kept) != nil || kept.Version != 1 || len(kept.Identity) != ed25519.SeedSize {
			return nil, errSandboxDamaged
		}
		return ed25519.NewKeyFromSeed(kept.Identity), nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	kept.Version, kept.Identity = 1, make([]byte, ed25519.SeedSize)
	rand.Read(kept.Identity)
	if raw, err = json.Marshal(kept); err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(kept.Identity), k.Save(raw)
}

// firstToken makes a token file where there is none.
func firstToken(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	token := rand.Text() // 128 bits and more
	return writeFile(file, []byte("# token user[@tenant]; docs/format/sandbox-session.md\n"+token+" local@local\n"))
}
