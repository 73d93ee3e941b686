package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"enclave/agent"
	"enclave/agent/uplink"
	"enclave/cli/client"
	"enclave/cli/node"
	"enclave/control"
	"enclave/sandbox/tools"
	"enclave/store"
	"enclave/store/audit"
	"enclave/store/backup"
	"enclave/store/seal"
	"enclave/wire"
	"enclave/wire/api"
	"enclave/wire/svid"
)

// The exit codes are a contract with scripts.
const (
	exitOK        = 0
	exitRefused   = 1 // the server, or what was asked about, says no
	exitUsage     = 2 // bad usage or input
	exitSignIn    = 3 // not signed in
	exitForbidden = 4
	exitNotFound  = 5
	exitTryAgain  = 6
	exitDamaged   = 7 // local state is damaged
)

// signInHint is what to do without a token that counts.
const signInHint = "set ENCLAVE_TOKEN_FILE to the file that \"enclave up\" wrote, or pass its --state"

// failure is an error with its exit code and what to do next.
type failure struct {
	exit     int
	Code     string         `json:"code"`
	Message  string         `json:"message"`
	Hint     string         `json:"hint,omitempty"`
	Problems []wire.Problem `json:"problems,omitempty"`
	Finding  *audit.Finding `json:"finding,omitempty"` // of a verification
}

func (f *failure) Error() string { return f.Message }

func (f *failure) hint(s string) *failure {
	f.Hint = s
	return f
}

func usage(format string, args ...any) *failure {
	return &failure{exit: exitUsage, Code: "usage", Message: fmt.Sprintf(format, args...)}
}

// known maps errors of the parts to a code, an exit status and a next step. The
// first match counts.
var known = []struct {
	err  error
	exit int
	code string
	hint string
}{
	{control.ErrCountries, exitUsage, "usage", "it holds lines of range,country: 192.0.2.0/24,GB"},
	{seal.ErrNoIdentity, exitUsage, "no_identity", "pass --identity FILE or --passphrase-file FILE, whichever it was sealed for"},
	{seal.ErrWrongIdentity, exitUsage, "wrong_identity", "pass the --identity or the --passphrase-file that it was sealed for"},
	{seal.ErrNoKeyring, exitDamaged, "no_keyring", "nothing opens the state without it"},
	{seal.ErrKeyring, exitDamaged, "damaged", "put keyring.age back from a backup; nothing opens the state without it"},
	{seal.ErrMixed, exitUsage, "mixed_recipients", "add --only to replace the others, or choose a recipient of their kind"},
	{seal.ErrLast, exitRefused, "last_recipient", "add another one first"},
	{seal.ErrNotRecipient, exitNotFound, api.CodeNotFound, "run \"enclave seal status\""},
	{seal.ErrFIPS, exitUsage, "fips_only", "run without GODEBUG=fips140=only"},
	{node.ErrNoState, exitNotFound, "no_state", "pass --state with the directory of \"enclave up\", a relay or an agent"},
	{node.ErrClear, exitRefused, "in_clear", ""},
	{store.ErrNotEmpty, exitRefused, "not_empty", "choose an empty --state; a state that is damaged is moved away, not overwritten"},
	{store.ErrRollback, exitRefused, "rollback", "restore a newer backup, or add --accept-rollback and look at what has to be revoked again"},
	{store.ErrForked, exitRefused, "forked", "is it the backup of another organisation, or of a state that was rolled back before?"},
	{store.ErrBackup, exitDamaged, "damaged_backup", "take another backup"},
	{backup.ErrFormat, exitDamaged, "damaged_backup", "take another backup"},
	{store.ErrRestoring, exitDamaged, "restore_interrupted", "run \"enclave backup restore\" again, with this backup or another; or choose another --state"},
	{store.ErrBusy, exitTryAgain, "busy", ""},
	{store.ErrFull, exitTryAgain, api.CodeDiskFull, "make room"},
	{seal.ErrSync, exitDamaged, api.CodeDiskFailed, "look at the disk, then start again: what was acknowledged is kept"},
	{store.ErrNotStopped, exitTryAgain, "not_stopped", ""},
	{store.ErrLocked, exitTryAgain, "locked", "stop the other one, or choose another --state"},
	{tools.ErrAuditHeld, exitTryAgain, "locked", "end the process that keeps it, or pass another --audit"},
	{store.ErrDamaged, exitDamaged, "damaged", "the file was left as it is; bring a backup back with \"enclave backup restore FILE --state NEW-DIR\""},
	{agent.ErrDamaged, exitDamaged, "damaged", "the file was left as it is; put a backup in its place, or move it away and enrol again"},
	{node.ErrDamaged, exitDamaged, "damaged", "the file was left as it is; put a backup in its place, or move it away and enrol again"},
	{store.ErrNewer, exitDamaged, "newer_state", "run the version that wrote it, or a later one"},
	{store.ErrOpenToOthers, exitUsage, "open_to_others", "it holds private keys; nobody else may enter it"},
	{store.ErrNotOurs, exitUsage, "not_ours", "run it as that user, for example with sudo -u, or make it all yours: chown -R"},
	{agent.ErrLongPath, exitUsage, "long_path", "choose a shorter --state"},
	{uplink.ErrBadEndpoint, exitUsage, "usage", "pass --control and --ca-fingerprint as \"enclave up\" printed them"},
	{client.ErrBadAddress, exitUsage, "usage", "see --url and ENCLAVE_URL"},
	{wire.ErrBadName, exitUsage, "usage", "choose another --name"},
	{svid.ErrFingerprint, exitUsage, "wrong_fingerprint", "compare it with what \"enclave up\" printed; if it is right there, somebody is in between"},
	{svid.ErrNotYetValid, exitTryAgain, "clock", "set this machine's clock and try again"},
	{svid.ErrExpired, exitTryAgain, "clock", "if this machine's clock is right, enrol again"},
	{agent.ErrNeedKey, exitUsage, "need_key", "run \"enclave key create --name …\" and pass its secret with --key-file"},
	{agent.ErrClock, exitTryAgain, "clock", "set this machine's clock, or let it follow a time server, and try again"},
	{agent.ErrRevoked, exitForbidden, "revoked", "enrol again with a new state directory and a new key"},
	{agent.ErrReplaced, exitTryAgain, "replaced", "one state directory belongs to one machine; was it copied?"},
	{agent.ErrUnknownName, exitNotFound, "unknown_name", "no policy connects this system to that name or address; see \"enclave policy list\""},
	{agent.ErrNoAgent, exitTryAgain, "no_agent", "start \"enclave agent\" with this --state first"},
	{uplink.ErrUnreachable, exitTryAgain, "unreachable", "is \"enclave up\" running there?"},
	{client.ErrUntrusted, exitUsage, "untrusted", "set ENCLAVE_CA_FINGERPRINT to the root fingerprint that \"enclave up\" printed, or run \"enclave login URL --ca-fingerprint SHA256 --token-file FILE\""},
	{client.ErrScheme, exitUsage, "wrong_scheme", "is it the port of the API?"},
	{client.ErrUnreachable, exitTryAgain, "unreachable", "is \"enclave up\" running there? See ENCLAVE_URL or --url"},
	{syscall.EADDRINUSE, exitTryAgain, "port_taken", "another program listens there; choose another address"},
	{syscall.EADDRNOTAVAIL, exitUsage, "not_here", "choose an address that this machine has"},
	{context.DeadlineExceeded, exitTryAgain, "timeout", ""},
	{client.ErrTooLong, exitUsage, "usage", ""},
	{fs.ErrNotExist, exitUsage, "no_file", ""},
	{fs.ErrPermission, exitUsage, "permission", "run it as the owner, or choose a place that is yours"},
	{syscall.EROFS, exitUsage, "read_only", "choose a place that can be written to, with --state"},
	{syscall.ENOTDIR, exitUsage, "usage", "a file is in the way; choose another place"},
	{syscall.ENOSPC, exitTryAgain, api.CodeDiskFull, "make room"},
}

// fail prints err of the command c the way the contract says and returns the exit
// code.
func (a *app) fail(c *cobra.Command, err error) int {
	f := explain(err)
	if f.Code == api.CodeNotFound && f.Hint == "" && c.HasParent() {
		f.Hint = cmp.Or(lookUp[c.Parent().Name()+" "+c.Name()], lookUp[c.Parent().Name()])
	}
	if a.json {
		raw, _ := json.Marshal(f)
		fmt.Fprintf(a.Err, "%s\n", raw)
		return f.exit
	}
	fmt.Fprintf(a.Err, "enclave: %s\n", clean(f.Message))
	for _, p := range f.Problems {
		if !strings.HasSuffix(f.Message, p.Error()) { // one mistake alone is said in the message
			fmt.Fprintf(a.Err, "  %s\n", clean(p.Error()))
		}
	}
	if f.Hint != "" {
		fmt.Fprintf(a.Err, "hint: %s\n", clean(f.Hint))
	}
	return f.exit
}

// lookUp is what to do about something that was not found, by the noun of the command.
var lookUp = map[string]string{
	"system": "see \"enclave system list\"",
	"tag":    "see \"enclave tag list\" and \"enclave system list\"",
	"trust":  "see \"enclave trust list\" and \"enclave system list\"",
	"key":    "see \"enclave key list\"",
	"policy": "see \"enclave policy list\"",
	"relays": "see \"enclave relays list\"",
	// Verbs whose argument is not what their noun says.
	"policy confirm":  "it was confirmed, or has reverted: see \"enclave policy history\"",
	"policy restore":  "see \"enclave policy history\"",
	"policy compare":  "see \"enclave policy history\"",
	"enclave explain": "see \"enclave system list\"",
	"enclave resolve": "see \"enclave system list\"",
	"flows cut":       "see \"enclave flows\"",
	"token":           "see \"enclave token list\"",
}

func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var p *api.Problem
	if errors.As(err, &p) {
		f := &failure{exit: exitFor(p), Code: p.Code, Message: err.Error(), Hint: p.Hint, Problems: p.Problems}
		if p.Code == api.CodeUnauthorised { // the server's hint speaks of headers
			f.Hint = signInHint
		}
		return f
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "listen" && !strings.HasPrefix(op.Net, "unix") && errors.Is(op, fs.ErrPermission) {
		return &failure{exit: exitUsage, Code: "permission", Message: err.Error(), Hint: lowPort}
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return &failure{exit: k.exit, Code: k.code, Message: err.Error(), Hint: k.hint}
		}
	}
	return &failure{exit: exitRefused, Code: "error", Message: err.Error()}
}

// lowPort is said instead of the hint for files.
const lowPort = "an ordinary user may not listen there: choose a port from 1024 on, or give the program CAP_NET_BIND_SERVICE"

func exitFor(p *api.Problem) int {
	switch p.Code {
	case api.CodeKeyUnknown, api.CodeKeyExpired, api.CodeKeyUsedUp, api.CodeKeyElsewhere:
		return exitRefused // 403 on the wire, but nobody who signs in could change it
	case api.CodeClockSkew:
		return exitTryAgain
	}
	switch {
	case p.Status == 401:
		return exitSignIn
	case p.Status == 403:
		return exitForbidden
	case p.Status == 404:
		return exitNotFound
	case p.Status == 400 || p.Status == 413 || p.Status == 422 || p.Code == api.CodeAmbiguous:
		return exitUsage
	case p.Status == 429 || p.Status >= 500:
		return exitTryAgain
	}
	return exitRefused
}
