package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"enclave/cli/client"
	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

func (a *app) login() *cobra.Command {
	var fingerprint, file string
	c := &cobra.Command{Use: "login URL --ca-fingerprint SHA256 --token-file FILE", Short: "Let the verbs on this machine find an API elsewhere",
		Long: `Asks the API at URL whether it knows the token, and leaves both in --state, readable by
you alone: from then on the verbs find it there. The fingerprint of the organisation's
root is what "enclave up" printed; without it the API has to have a public certificate.
Make the token where the API runs; one that may less than the administrator's will do.`,
		Example: "  enclave token create my-laptop --scope admin --out laptop.token\n" +
			"  enclave login https://192.0.2.7:8443 --ca-fingerprint sha256:… --token-file laptop.token",
		Args: exactly("URL"), RunE: func(c *cobra.Command, args []string) error {
			dir, err := a.stateDir()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(dir, store.DatabaseName)); err == nil {
				return usage("%s is the state of a control plane, which says itself where its API is", dir).hint("choose another --state")
			}
			token := a.Getenv("ENCLAVE_TOKEN")
			if name := first(file, a.Getenv("ENCLAVE_TOKEN_FILE")); name != "" && (file != "" || token == "") {
				if token, err = readSecret(name); err != nil {
					return err
				}
			}
			if token == "" {
				return usage("no token for %s", args[0]).hint("pass --token-file FILE with what \"enclave token create\" printed")
			}
			fingerprint = first(fingerprint, a.Getenv("ENCLAVE_CA_FINGERPRINT"))
			cl, err := client.New(client.Config{URL: args[0], Token: token, Fingerprint: fingerprint})
			if err != nil {
				return err
			}
			defer cl.Close()
			who, err := cl.WhoAmI(c.Context())
			if err != nil {
				return err
			}
			if err := keepLogin(dir, apiContext{URL: args[0], Fingerprint: fingerprint}, token); err != nil {
				return err
			}
			return a.print(struct {
				URL   string `json:"url"`
				State string `json:"state"`
				api.WhoAmI
			}{args[0], dir, who}, func(io.Writer) {
				a.printf("signed in at %s as %s, who may: %s\n", args[0], clean(who.Name), clean(strings.Join(who.Scopes, ", ")))
				a.printf("the verbs find it with --state %s\n", dir)
			})
		}}
	c.Flags().StringVar(&fingerprint, "ca-fingerprint", "", "fingerprint of the organisation's root, `SHA256`, as \"enclave up\" prints it (default $ENCLAVE_CA_FINGERPRINT)")
	c.Flags().StringVar(&file, "token-file", "", "`FILE` with the secret of a token (default $ENCLAVE_TOKEN_FILE, or $ENCLAVE_TOKEN)")
	_ = c.MarkFlagFilename("token-file")
	return c
}

// keepLogin leaves a login in dir: its token in a file that no other login has, then the
// context that names it, which makes it the one that counts, then no other token. A crash
// between any two leaves a whole login, the older or the newer, and never sends one's token
// to the other's address.
func keepLogin(dir string, at apiContext, token string) error {
	old, err := readContext(dir)
	if err != nil {
		old = apiContext{} // none, or none that anybody can use
	}
	if at.TokenFile, err = keepToken(dir, token); err != nil {
		return err
	}
	if err := writeContext(dir, at); err != nil {
		return errors.Join(err, os.Remove(filepath.Join(dir, at.TokenFile)))
	}
	files, err := os.ReadDir(dir)
	for _, f := range files {
		if ofLogin(dir, f.Name(), old) && f.Name() != at.TokenFile {
			if bad := os.Remove(filepath.Join(dir, f.Name())); !errors.Is(bad, fs.ErrNotExist) {
				err = errors.Join(err, bad)
			}
		}
	}
	return err
}

// ofLogin reports whether a login has made a file, or one of an earlier version, which
// called it otherwise. What an operator keeps there under a name much like it stays.
func ofLogin(dir, name string, old apiContext) bool {
	id, made := strings.CutPrefix(name, loginPrefix)
	id, ok := strings.CutSuffix(id, loginSuffix)
	made = made && ok
	return made && loginID.MatchString(id) || (made || name == tokenFile) && filepath.Join(dir, name) == old.TokenFile
}

// What the files of the tokens of logins are called: an identifier (wire.NewID) of so many
// characters is in between.
const (
	loginPrefix, loginSuffix = "login-", ".token"
	loginIDLen               = 16
)

var loginID = regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{16}$`)

// keepToken keeps a token in dir and returns the name of its file.
func keepToken(dir, token string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := store.CheckDir(dir); err != nil {
		return "", err
	}
	name := loginPrefix + wire.NewID(loginIDLen) + loginSuffix
	return name, writeFile(filepath.Join(dir, name), []byte(token+"\n"))
}
