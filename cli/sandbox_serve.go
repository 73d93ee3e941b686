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
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"enclave/cli/node"
	"enclave/sandbox/script"
	"enclave/sandbox/session"
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
}

func (a *app) sandboxServe() *cobra.Command {
	f := serveFlags{limits: session.Defaults()}
	c := &cobra.Command{Use: "serve", Short: "Serve runs over HTTP: sessions, events, replay",
		Long: `Serves runs as sessions over HTTP, in JSON lines or server-sent events. The first start
makes a token and leaves it in --state; docs/format/sandbox-session.md describes routes,
events and the token file. Clients that pin the identity printed at the start have their
sessions sealed from end to end.`,
		Example: `  enclave sandbox serve --tools tools.json --audit runs.jsonl
  enclave sandbox serve --tools tools.json --join --key-file runs.key --level SECURE`,
		Args: exactly(), RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(c.Context())
			defer stop()
			return a.runServe(ctx, &f)
		}}
	f.host.flags(c)
	f.unseal.flags(c)
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:8460", "`HOST:PORT` to serve on; loopback, or behind a proxy that ends TLS")
	fl.StringVar(&f.tokenFile, "token-file", "", "`FILE` of mode 0600 with a token and a user[@tenant] on each line (default sandbox.tokens in --state)")
	fl.StringVar(&f.level, "level", "", "the least strict level that a caller may ask for (default STANDARD)")
	fl.BoolVar(&f.sealed, "require-encryption", false, "take sealed sessions only")
	fl.StringArrayVar(&f.tags, "tag", nil, "`TAG` that callers may ask for; may be given several times (default all of the key's)")
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
	dir, err := a.stateDir()
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
	ids, err := a.identities(&f.unseal)
	if err != nil {
		return err
	}
	keeper := &node.Keeper{Dir: dir, File: sandboxFile, Identities: ids, Damaged: errSandboxDamaged}
	identity, err := serverIdentity(keeper)
	if err != nil {
		return err
	}
	if err := keeper.Settle(); err != nil {
		return err
	}
	file := f.tokenFile
	if file == "" {
		file = filepath.Join(dir, sandboxTokens)
		if err := firstToken(file); err != nil {
			return err
		}
	}
	tokens, err := session.ReadTokens(file)
	if err != nil {
		return usage("%v", err)
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
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return usage("--listen: %v", err)
	}
	s := session.New(session.Config{Host: host, Tokens: tokens, Level: level, Identity: identity, Sealed: f.sealed, Tags: f.tags,
		Join: f.host.join, Limits: f.limits, Logger: a.logger()})
	out := serving{"http://" + l.Addr().String(), file, base64.StdEncoding.EncodeToString(identity.Public().(ed25519.PublicKey)), string(level)}
	err = a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "serving    %s\ntokens     %s\nidentity   %s\nlevel      %s and stricter\n", out.URL, out.TokenFile, out.Identity, out.Level)
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		a.logger().Warn("tokens and scripts cross this network in the clear, unless a proxy ends TLS in front or clients seal their sessions", "listen", l.Addr())
	}
	return s.Run(ctx, l)
}

// serverIdentity reads the server's key, or makes one.
func serverIdentity(k *node.Keeper) (ed25519.PrivateKey, error) {
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
