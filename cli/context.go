package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"enclave/cli/client"
	"enclave/store"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
)

// contextFile is what `up` leaves in its state directory so that the verbs find it.
const contextFile = "context.json"

// apiContext says where the API is.
type apiContext struct {
	URL         string `json:"url"`
	TokenFile   string `json:"token_file"` // relative names are relative to the context file
	Fingerprint string `json:"ca_fingerprint"`
}

// stateDir is --state, ENCLAVE_STATE, or the place the XDG specification gives.
func (a *app) stateDir() (string, error) {
	for _, dir := range []string{a.state, a.Getenv("ENCLAVE_STATE")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	if dir := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "enclave"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usage("no state directory: %v", err).hint("pass --state DIR")
	}
	return filepath.Join(home, ".local", "state", "enclave"), nil
}

// ownState is stateDir for what runs on the state: not on one of another user.
func (a *app) ownState() (string, error) {
	dir, err := a.stateDir()
	if err == nil {
		err = store.CheckOwner(dir)
	}
	return dir, err
}

func writeContext(dir string, c apiContext) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, contextFile), append(raw, '\n'))
}

// readContext returns fs.ErrNotExist where there is none.
func readContext(dir string) (apiContext, error) {
	var c apiContext
	raw, err := readSmall(filepath.Join(dir, contextFile))
	if err != nil {
		return c, err
	}
	if err := wire.Unmarshal(raw, &c); err != nil {
		return c, &failure{exit: exitDamaged, Code: "damaged", Message: fmt.Sprintf("%s is damaged: %v", filepath.Join(dir, contextFile), err),
			Hint: "restart \"enclave up\" on that directory, which writes it anew"}
	}
	if c.TokenFile != "" && !filepath.IsAbs(c.TokenFile) {
		c.TokenFile = filepath.Join(dir, c.TokenFile)
	}
	return c, nil
}

// client finds the API: flags, then the environment, then the context file of the
// state directory. A token file in the environment may have its context beside it,
// which then supplies the fingerprint.
func (a *app) client() (*client.Client, error) {
	dir, err := a.stateDir()
	if err != nil {
		return nil, err
	}
	cfg, err := readContext(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if file := a.Getenv("ENCLAVE_TOKEN_FILE"); file != "" {
		beside, err := readContext(filepath.Dir(file))
		if err == nil && (cfg.URL == "" || a.state == "") {
			cfg = beside
		}
		cfg.TokenFile = file
	}
	token := ""
	if cfg.TokenFile != "" && a.Getenv("ENCLAVE_TOKEN") == "" {
		if token, err = readSecret(cfg.TokenFile); err != nil {
			return nil, notSignedIn(err.Error())
		}
	}
	out := client.Config{
		URL:         first(a.url, a.Getenv("ENCLAVE_URL"), cfg.URL),
		Token:       first(a.Getenv("ENCLAVE_TOKEN"), token),
		Fingerprint: first(a.Getenv("ENCLAVE_CA_FINGERPRINT"), cfg.Fingerprint),
	}
	if out.URL == "" {
		if _, err := os.Stat(filepath.Join(dir, agentFile)); err == nil {
			return nil, usage("no API address: %s is the state of an agent, which has no say in the control plane", dir).
				hint("for an agent there are agent status, ping, resolve, netcheck, waitfor and doctor; for the rest run \"enclave login\" with a token first, or ask who has one")
		}
		return nil, usage("no API address: there is no %s in %s", contextFile, dir).
			hint("pass --state with the directory of \"enclave up\", or run \"enclave login\" first, or set ENCLAVE_URL and ENCLAVE_TOKEN_FILE")
	}
	if out.Token == "" {
		return nil, notSignedIn("no token for " + out.URL)
	}
	return client.New(out)
}

func notSignedIn(message string) *failure {
	return &failure{exit: exitSignIn, Code: api.CodeUnauthorised, Message: message, Hint: signInHint}
}

// readSecret reads one line from a file; "-" is not special: a secret on a pipe is
// given as /dev/stdin by those who want that.
func readSecret(file string) (string, error) {
	raw, err := readSmall(file)
	if err != nil {
		return "", usage("%v", err).hint("the file holds one secret on one line")
	}
	if len(raw) > 4096 {
		return "", usage("%s: more than 4096 bytes are no secret of ours", file)
	}
	return strings.TrimSpace(string(raw)), nil
}

// readSmall reads a file of keys, up to a byte more than 64 KiB: what is named by mistake
// may have no end, like /dev/zero.
func readSmall(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 64<<10+1) // one buffer, so that whoever clears it leaves no copy behind
	n, err := io.ReadFull(f, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return b[:n], err
}

// writeFile replaces a file whole, readable by its owner only.
func writeFile(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already after the rename
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return seal.Rename(tmp.Name(), name)
}

// newFile is a file to be: its directory takes one, and nothing has its name yet.
type newFile struct {
	name string
	tmp  *os.File // beside it, mode 0600
}

// createFile refuses a name that is taken, whatever it is taken by.
func createFile(name string) (*newFile, error) {
	switch _, err := os.Lstat(name); {
	case err == nil:
		return nil, fmt.Errorf("%s exists and is not overwritten", name)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return nil, err
	}
	return &newFile{name, tmp}, nil
}

// keep gives the file its content and its name, both or neither. A link fails where a
// rename would take the place of what has come there meanwhile.
func (f *newFile) keep(b []byte) error {
	_, err := f.tmp.Write(b)
	if err := errors.Join(err, f.tmp.Sync(), f.tmp.Close()); err != nil {
		return err
	}
	err = os.Link(f.tmp.Name(), f.name)
	if _, taken := os.Lstat(f.name); err == nil || taken == nil {
		return err
	}
	return os.Rename(f.tmp.Name(), f.name) // a file system without links
}

// Close leaves nothing behind but what was kept.
func (f *newFile) Close() error {
	f.tmp.Close()
	return os.Remove(f.tmp.Name())
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
