package session

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"

	"enclave/sandbox/tools"
)

// Tokens says who a bearer is. It keeps hashes only and does not change.
type Tokens struct {
	list    []token
	sum     [32]byte // of the text that they were read from
	exposed bool     // others on this machine can read that file
	once    bool     // it is no regular file, so it cannot be read again
}

// token is one line of a token file.
type token struct {
	sum   [32]byte
	who   tools.Caller
	until time.Time // zero: for ever
}

func (t *token) counts(now time.Time) bool { return t.until.IsZero() || now.Before(t.until) }

// Limits of a token file.
const (
	maxTokenFile = 1 << 20
	minToken     = 20 // bytes of a token: less could be guessed
)

var userName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseTokens reads one token a line: the token, a blank, its user, with @tenant where it
// is not the tenant "default", and, where it ends by itself, a blank and that instant (RFC
// 3339). Lines that begin with # are comments. A text without a token is none's mistake.
//
//	3f9c…e1 alice@lab
//	b07d…22 bob@lab 2026-12-31T18:00:00Z
func ParseTokens(text []byte) (*Tokens, error) {
	if len(text) > maxTokenFile {
		return nil, fmt.Errorf("tokens: more than %d bytes", maxTokenFile)
	}
	t := &Tokens{sum: sha256.Sum256(text)}
	lines := make(map[[32]byte]int)
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		one, err := parseToken(strings.Fields(line))
		if err != nil {
			return nil, fmt.Errorf("tokens: line %d: %w", n, err)
		}
		if before := lines[one.sum]; before > 0 {
			return nil, fmt.Errorf("tokens: line %d: the token of line %d again: whoever removed one of them would leave the other", n, before)
		}
		lines[one.sum] = n
		t.list = append(t.list, one)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return t, nil
}

func parseToken(fields []string) (t token, err error) {
	if len(fields) < 2 || len(fields) > 3 || len(fields[0]) < minToken {
		return t, fmt.Errorf("want a token of at least %d characters, a blank, and user or user@tenant; and an instant where it ends by itself", minToken)
	}
	user, tenant, ok := strings.Cut(fields[1], "@")
	if !ok {
		tenant = "default"
	}
	if !userName.MatchString(user) || !userName.MatchString(tenant) {
		return t, errors.New("a user and a tenant are letters, digits, dots, hyphens and underscores")
	}
	if len(fields) == 3 {
		if t.until, err = time.Parse(time.RFC3339, fields[2]); err != nil || t.until.IsZero() {
			return t, errors.New("the end of a token is an instant such as 2026-12-31T18:00:00Z")
		}
	}
	t.sum, t.who = sha256.Sum256([]byte(fields[0])), tools.Caller{User: user, Tenant: tenant}
	return t, nil
}

// Accepted is how many of the tokens count at an instant.
func (t *Tokens) Accepted(now time.Time) (n int) {
	for i := range t.list {
		if t.list[i].counts(now) {
			n++
		}
	}
	return n
}

// ReadTokens reads a file of tokens, which must be its owner's alone.
func ReadTokens(path string) (*Tokens, error) {
	t, err := readTokens(path)
	if err == nil && t.exposed {
		return nil, fmt.Errorf("%s: %w", path, errExposed)
	}
	return t, err
}

var errExposed = errors.New("others on this machine can read it: chmod 600 it")

// readTokens also returns what is in a file that others can read.
func readTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readOpen(f, info)
}

func readOpen(f *os.File, info os.FileInfo) (*Tokens, error) {
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return nil, err
	}
	t, err := ParseTokens(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	t.exposed = runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
	t.once = !info.Mode().IsRegular()
	return t, nil
}
