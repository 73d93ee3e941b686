package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// unsealFlags say what opens a sealed state.
type unsealFlags struct{ identity, passphrase string }

func (f *unsealFlags) flags(c *cobra.Command) *cobra.Command {
	fl := c.Flags()
	fl.StringVar(&f.identity, "identity", "", "`FILE` with the age identity or SSH key that opens the state, - for stdin (default $ENCLAVE_IDENTITY_FILE, else "+seal.IdentityName+" in the state)")
	fl.StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase that opens the state (default $ENCLAVE_PASSPHRASE_FILE)")
	return c
}

// maxIdentity is more than any identity file that package seal reads.
const maxIdentity = 1 << 20

// identities reads what opens the state; none means the identity beside it.
func (a *app) identities(f *unsealFlags) (ids []seal.Identity, err error) {
	if err := seal.NoCoreDump(); err != nil {
		a.logger().Warn("a crash may leave keys in a core dump", "error", err)
	}
	if file := first(f.identity, a.Getenv("ENCLAVE_IDENTITY_FILE")); file == "-" {
		b, err := io.ReadAll(io.LimitReader(a.In, maxIdentity))
		if err != nil {
			return nil, err
		}
		if ids, err = seal.ParseIdentities(b); err != nil {
			return nil, usage("--identity -: %v", err)
		}
	} else if file != "" {
		if ids, err = seal.ReadIdentities(file); err != nil {
			return nil, usage("--identity %s: %v", file, err)
		}
	}
	if file := first(f.passphrase, a.Getenv("ENCLAVE_PASSPHRASE_FILE")); file != "" {
		id, err := passphraseIn(file)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// identitiesUntil is identities for what serves. Reading may wait, for a pipe that nobody
// has written to, and a signal ends that, too: the reader then ends with the process.
func (a *app) identitiesUntil(ctx context.Context, f *unsealFlags) ([]seal.Identity, error) {
	type read struct {
		ids []seal.Identity
		err error
	}
	got := make(chan read, 1)
	go func() {
		ids, err := a.identities(f)
		got <- read{ids, err}
	}()
	select {
	case r := <-got:
		return r.ids, r.err
	case <-ctx.Done():
		return nil, errStillReading
	}
}

var errStillReading = errors.New("still waiting for the identity")

func passphraseIn(file string) (seal.Identity, error) {
	secret, err := readSecret(file)
	if err != nil {
		return seal.Identity{}, err
	}
	id, err := seal.Passphrase(secret)
	if err != nil {
		return id, usage("%s: %v", file, err)
	}
	return id, nil
}

func (a *app) seal() *cobra.Command {
	c := a.group("seal", "Say who can read the state on this machine's disk", a.sealStatus(), a.sealAdd(), a.sealRemove(), a.sealRotate(), a.sealLock(), a.sealUnlock())
	c.Long = `Everything that a control plane, a relay or an agent keeps in its state directory is
encrypted. ` + seal.KeyringName + ` in that directory holds the keys, encrypted to one or more
recipients: age keys (age1pq1…, which also withstands quantum computers, or age1…), SSH
keys, or a passphrase.

Without --identity the first start makes an identity of its own and leaves it in the
state as ` + seal.IdentityName + `. Then a copy or a backup of the database is worthless to
others, but a copy of the whole directory is not: whoever has both reads everything. To
keep them apart, make an identity elsewhere and make it the only one:

  age-keygen -pq -o operator.txt
  enclave seal add $(age-keygen -y operator.txt) --only --state DIR
  rm DIR/` + seal.IdentityName + `
  enclave up --state DIR --identity operator.txt

What opens the state cannot be got back: keep a copy of the identity, too.

All of it works while a control plane runs, which then does it itself; lock and unlock work
only then.`
	return c
}

// sealer is what the verbs work on.
func (a *app) sealer(f *unsealFlags) (node.Seal, error) {
	dir, err := a.stateDir()
	if err != nil {
		return node.Seal{}, err
	}
	ids, err := a.identities(f)
	return node.Seal{Dir: dir, Identities: ids}, err
}

func (a *app) sealStatus() *cobra.Command {
	var f unsealFlags
	var pages bool
	c := f.flags(&cobra.Command{Use: "status", Short: "Show who can open the state, and whether every page of it is whole",
		Example: "  enclave seal status --state lab\n  enclave seal status --state lab --pages --json",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.sealer(&f)
			if err != nil {
				return err
			}
			st, err := s.Status(pages)
			if err != nil {
				return err
			}
			if _, err := readContext(s.Dir); err == nil && !noDatabase(s.Dir) {
				if live, err := a.liveSeal(c.Context()); err == nil {
					st.Running, st.Rotation = live.State, live.Rotation
				}
			}
			return a.print(st, func(w io.Writer) { printSeal(w, st) })
		}})
	c.Flags().BoolVar(&pages, "pages", false, "decipher and check every page of the database; the store must be stopped")
	return c
}

func printSeal(w io.Writer, st node.SealState) {
	fmt.Fprintf(w, "State       %s: sealed, root %d of %s\n", st.Dir, st.Root, st.Made.Format(time.RFC3339))
	if st.Running != "" {
		fmt.Fprintf(w, "Running     %s\n", st.Running)
	}
	if r := st.Rotation; r != nil && r.Ended == nil {
		fmt.Fprintf(w, "Rotation    under way, %d of %s\n", r.Done, wire.Count(r.Total, "page"))
	} else if st.Unfinished {
		fmt.Fprintln(w, "Rotation    was interrupted; run \"enclave seal rotate\" again")
	}
	if st.Beside {
		fmt.Fprintf(w, "Identity    %s, beside the state: whoever copies the whole directory reads it\n", seal.IdentityName)
	}
	for _, name := range st.Open {
		fmt.Fprintf(w, "Warning     others on this machine may read %s: chmod go= it\n", clean(name))
	}
	if st.Pages != nil {
		fmt.Fprintf(w, "Pages       %d, all whole\n", *st.Pages)
	}
	rows := [][]string{{"RECIPIENT", "KIND"}}
	for _, r := range st.Recipients {
		rows = append(rows, []string{short(r.Recipient), r.Kind})
	}
	table(w, rows...)
}

// short makes a recipient fit a line. Its beginning is enough for remove.
func short(recipient string) string {
	const room = 60
	if len(recipient) > room {
		recipient = recipient[:room] + "…"
	}
	return clean(recipient)
}

// sealChanged is what add and remove print.
type sealChanged struct {
	Recipient  string `json:"recipient"`
	Kind       string `json:"kind"`
	Recipients int    `json:"recipients"` // now
}

func (a *app) sealAdd() *cobra.Command {
	var f unsealFlags
	var only bool
	var file string
	c := f.flags(&cobra.Command{Use: "add RECIPIENT", Short: "Let an age key, an SSH key or a passphrase open the state",
		Example: "  enclave seal add age1pq1… --state lab --only\n" +
			"  enclave seal add \"$(cat ~/.ssh/id_ed25519.pub)\" --state lab\n" +
			"  enclave seal add passphrase --new-passphrase-file FILE --state lab --only",
		Args: exactly("RECIPIENT"), RunE: func(c *cobra.Command, args []string) error {
			r, err := recipientArg(args[0], file)
			if err != nil {
				return err
			}
			add := api.SealAdd{Recipient: args[0], Only: only}
			if file != "" {
				if add.Recipient = ""; args[0] != "passphrase" {
					return usage("--new-passphrase-file is for: seal add passphrase")
				}
				if add.Passphrase, err = readSecret(file); err != nil {
					return err
				}
			}
			return a.changeSeal(c, &f, sealChange{"added", func(k *seal.Keyring) (seal.Recipient, error) { return r, k.Add(r, only) },
				func(cl *client.Client) (seal.Recipient, api.Seal, error) {
					now, err := cl.SealAdd(c.Context(), add)
					return r, now, err
				}})
		}})
	c.Flags().BoolVar(&only, "only", false, "take all other recipients out")
	c.Flags().StringVar(&file, "new-passphrase-file", "", "`FILE` with the passphrase to add")
	return c
}

func recipientArg(arg, file string) (seal.Recipient, error) {
	if arg == "passphrase" {
		if file == "" {
			return seal.Recipient{}, usage("a passphrase comes from a file").hint("add --new-passphrase-file FILE")
		}
		id, err := passphraseIn(file)
		return id.Recipient, err
	}
	r, err := seal.ParseRecipient(arg)
	if err != nil {
		return r, usage("%v", err)
	}
	return r, nil
}

func (a *app) sealRemove() *cobra.Command {
	var f unsealFlags
	return f.flags(&cobra.Command{Use: "remove RECIPIENT", Short: "Take a recipient out; its beginning is enough where that fits one",
		Example: "  enclave seal remove age1pq1… --state lab",
		Args:    exactly("RECIPIENT"), ValidArgsFunction: a.completeRecipients(&f), RunE: func(c *cobra.Command, args []string) error {
			return a.changeSeal(c, &f, sealChange{"removed", func(k *seal.Keyring) (seal.Recipient, error) {
				r, err := match(k.Recipients(), args[0])
				if err != nil {
					return r, err
				}
				return r, k.Remove(r.String())
			}, func(cl *client.Client) (r seal.Recipient, now api.Seal, err error) {
				if now, err = cl.Seal(c.Context()); err != nil {
					return r, now, err
				}
				var list []seal.Recipient
				for _, have := range now.Recipients {
					if r, err := seal.ParseRecipient(have.Recipient); err == nil {
						list = append(list, r)
					}
				}
				if r, err = match(list, args[0]); err == nil {
					now, err = cl.SealRemove(c.Context(), api.SealRemove{Recipient: r.String()})
				}
				return r, now, err
			}})
		}})
}

// completeRecipients offers who can open the state: as the control plane that runs says,
// else as the keyring does where nothing has to be typed to open it.
func (a *app) completeRecipients(f *unsealFlags) completion {
	return func(c *cobra.Command, args []string, typing string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || f.identity == "-" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var list []node.SealRecipient
		ctx, cancel := context.WithTimeout(c.Context(), completeTimeout)
		defer cancel()
		if online, err := a.online(); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		} else if online {
			live, _ := a.liveSeal(ctx)
			for _, r := range live.Recipients {
				list = append(list, node.SealRecipient{Kind: r.Kind, Recipient: r.Recipient})
			}
		} else if s, err := a.sealer(f); err == nil {
			st, _ := s.Status(false)
			list = st.Recipients
		}
		return typed(recipientWords(list, typing)), cobra.ShellCompDirectiveNoFileComp
	}
}

// recipientWords are the beginnings that name each of a list, and no longer than that
// takes: a recipient may have two thousand characters.
func recipientWords(list []node.SealRecipient, typing string) (out []string) {
	const least = 16 // characters, so that a person knows it again
	for i, r := range list {
		n := max(least, len(typing))
		for j, other := range list {
			if i != j {
				n = max(n, common(r.Recipient, other.Recipient)+1)
			}
		}
		if strings.HasPrefix(r.Recipient, typing) {
			out = append(out, r.Recipient[:min(n, len(r.Recipient))]+"\t"+r.Kind)
		}
	}
	return out
}

// common is how many bytes two strings begin with alike.
func common(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// match finds the one recipient that begins with prefix.
func match(list []seal.Recipient, prefix string) (seal.Recipient, error) {
	prefix = strings.TrimSuffix(strings.TrimSpace(prefix), "…")
	fits := slices.DeleteFunc(slices.Clone(list), func(r seal.Recipient) bool {
		return r.String() != prefix && (len(prefix) < 4 || !strings.HasPrefix(r.String(), prefix))
	})
	switch len(fits) {
	case 0:
		return seal.Recipient{}, fmt.Errorf("%s: %w", short(prefix), seal.ErrNotRecipient)
	case 1:
		return fits[0], nil
	}
	return seal.Recipient{}, &failure{exit: exitUsage, Code: api.CodeAmbiguous,
		Message: fmt.Sprintf("%s fits %d recipients", short(prefix), len(fits)), Hint: "give more of it, from \"enclave seal status --json\""}
}

// sealChange is a change of recipients, on the keyring itself and over the API.
type sealChange struct {
	past   string
	here   func(*seal.Keyring) (seal.Recipient, error)
	online func(*client.Client) (seal.Recipient, api.Seal, error)
}

func (a *app) changeSeal(c *cobra.Command, f *unsealFlags, change sealChange) error {
	past := change.past
	online, err := a.online()
	if err != nil {
		return err
	}
	s, bad := a.sealer(f)
	var out sealChanged
	if online && !(noDatabase(s.Dir) && seal.HasFiles(s.Dir)) {
		cl, err := a.client()
		if err != nil {
			return err
		}
		r, now, err := change.online(cl)
		if err != nil {
			return err
		}
		out = sealChanged{r.String(), r.Kind(), len(now.Recipients)}
	} else if bad != nil {
		return bad
	} else if err := s.Change(c.Context(), time.Now(), func(k *seal.Keyring) (any, error) {
		r, err := change.here(k)
		out = sealChanged{r.String(), r.Kind(), len(k.Recipients())}
		return map[string]string{past: out.Recipient}, err
	}); err != nil {
		return err
	}
	beside := filepath.Join(s.Dir, seal.IdentityName)
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s %s (%s); %d can open the state now\n", past, short(out.Recipient), out.Kind, out.Recipients)
		if past == "removed" {
			fmt.Fprintln(w, "Who kept an old copy of the keyring still reads what it fits; \"enclave seal rotate\" ends that")
		}
		if ids, err := seal.ReadIdentities(beside); err == nil && !opens(s.Dir, ids) {
			fmt.Fprintf(w, "%s opens nothing any more; remove it\n", beside)
		}
	})
}

// opens reports whether the keyring in dir is encrypted to one of ids.
func opens(dir string, ids []seal.Identity) bool {
	k, err := seal.ReadKeyring(filepath.Join(dir, seal.KeyringName), ids)
	if err == nil {
		k.Wipe()
	}
	return err == nil
}

func (a *app) sealRotate() *cobra.Command {
	var f unsealFlags
	return f.flags(&cobra.Command{Use: "rotate", Short: "Encrypt the state again, under new keys",
		Long: `Makes new keys, encrypts everything in the state directory again and drops the old
keys. While a control plane runs, it does that itself, and writers wait only for the
moment in which the new file takes the old one's place. It may be interrupted at any
moment: the state opens, and running it again ends what was begun.`,
		Example: "  enclave seal rotate --state lab",
		Args:    exactly(), RunE: func(c *cobra.Command, _ []string) error {
			online, err := a.online()
			if err != nil {
				return err
			}
			var r rotated
			if s, bad := a.sealer(&f); !online && bad == nil || noDatabase(s.Dir) && seal.HasFiles(s.Dir) {
				out, err := s.Rotate(c.Context(), time.Now())
				if err != nil {
					return err
				}
				r = rotated{Root: out.Root, Pages: out.Pages}
			} else if r, err = a.rotateOnline(c.Context()); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) {
				fmt.Fprintf(w, "sealed under root %d; %s encrypted again\n", r.Root, wire.Count(r.Pages, "page"))
				if r.PauseMicros > 0 {
					fmt.Fprintf(w, "writers waited %s\n", time.Duration(r.PauseMicros)*time.Microsecond)
				}
			})
		}})
}

func noDatabase(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, store.DatabaseName))
	return err != nil
}

// tellSeal says what it means that the state opens itself, when that begins.
func (a *app) tellSeal(dir string, how seal.Opened, converted bool) {
	if converted {
		a.printf("  the state was in clear and is sealed now; the disk may hold remains of the old file\n")
	}
	if how.Made && how.Own {
		a.printf("  the state is sealed     %s opens it: keep a copy. Both together are\n"+
			"                          as good as clear text; see: enclave seal --help\n", filepath.Join(dir, seal.IdentityName))
	}
}

// besideState is the identity file that opens the state, if that is one of its own.
func besideState(dir string, how seal.Opened) string {
	file := filepath.Join(dir, seal.IdentityName)
	if _, err := os.Lstat(file); err != nil || !how.Own {
		return ""
	}
	return file
}
