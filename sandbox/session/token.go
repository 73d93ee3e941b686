package session

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"

	"enclave/sandbox/tools"
)

// Tokens says who a bearer is. It keeps hashes only and does not change.
type Tokens struct {
	list []token
}

type token struct {
	sum [32]byte
	who tools.Caller
}

// Limits of a token file.
const (
	maxTokenFile = 1 << 20
	minToken     = 20 // bytes of a token: less could be guessed
)

var userName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// ParseTokens reads one token a line: the token, a blank, and its user, with @tenant
// where it is not the tenant "default". Lines that begin with # are comments.
//
//	3f9c…e1 alice@lab
func ParseTokens(text []byte) (*Tokens, error) {
	if len(text) > maxTokenFile {
		return nil, fmt.Errorf("tokens: more than %d bytes", maxTokenFile)
	}
	t := new(Tokens)
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 2 || len(fields[0]) < minToken {
			return nil, fmt.Errorf("tokens: line %d: want a token of at least %d characters, a blank, and user or user@tenant", n, minToken)
		}
		user, tenant, ok := strings.Cut(fields[1], "@")
		if !ok {
			tenant = "default"
		}
		if !userName.MatchString(user) || !userName.MatchString(tenant) {
			return nil, fmt.Errorf("tokens: line %d: a user and a tenant are letters, digits, dots, hyphens and underscores", n)
		}
		t.list = append(t.list, token{sha256.Sum256([]byte(fields[0])), tools.Caller{User: user, Tenant: tenant}})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if len(t.list) == 0 {
		return nil, errors.New("tokens: there is none, so nobody could call")
	}
	return t, nil
}

// ReadTokens reads a file of tokens, which must be its owner's alone.
func ReadTokens(path string) (*Tokens, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: others on this machine can read it: chmod 600 it", path)
	}
	if info.Size() > maxTokenFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxTokenFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseTokens(text)
}

// Who returns whose token a header holds. Every token is compared, in constant time:
// the answer's time says nothing about any of them.
func (t *Tokens) Who(header string) (who tools.Caller, ok bool) {
	text, found := strings.CutPrefix(header, "Bearer ")
	sum := sha256.Sum256([]byte(text))
	for i := range t.list {
		if subtle.ConstantTimeCompare(sum[:], t.list[i].sum[:]) == 1 && found {
			who, ok = t.list[i].who, true
		}
	}
	return who, ok
}
