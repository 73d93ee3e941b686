package tools

import (
	"strings"
	"testing"
)

// A service that repeats a secret in what it says of a failure, after as many bytes as a
// script likes to make it say, tells no piece of it, wherever the text is cut.
func TestNoPieceOfASecretIsTold(t *testing.T) {
	const secret = "hunter2-AbCdEfGhIjKlMnOpQrStUvWxYz"
	red, err := newRedactor("", []string{secret})
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{redact: red}
	says := r.teller(&tool{rules: Rules{TellErrors: true}})
	for before := range 4*maxTold + 2 {
		text := strings.Repeat(".", before) + secret + " and so on"
		if got := says(text[:min(len(text), 4*maxTold)]); strings.Contains(got, secret[:minPiece]) {
			t.Fatalf("after %d bytes: %q", before, got)
		}
		text = strings.Repeat(secret+" ", before%60) + secret
		if got := says(text[:len(text)-1]); strings.Contains(got, secret[:minPiece]) {
			t.Fatalf("%d times: %q", before%60, got)
		}
	}
	if got := says("no disk"); got != ": no disk" {
		t.Errorf("said %q", got)
	}
	if got := r.teller(&tool{})("no disk"); got != "" {
		t.Errorf("told although nobody wanted that: %q", got)
	}
}

func TestTheLinesOfASecretAreSecret(t *testing.T) {
	red, err := newRedactor("", []string{"-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\nshort\n-----END KEY-----\n"})
	if err != nil {
		t.Fatal(err)
	}
	if got := red.text("bad key: MC4CAQAwBQYDK2VwBCIEIA short"); got != "bad key: "+Redacted+" short" {
		t.Errorf("%q", got)
	}
}

func TestLastWordsBeginWithAWholeOne(t *testing.T) {
	const secret = "hunter2-AbCdEfGhIjKlMnOpQrStUvWxYz"
	for after := range maxLastWords + 2 {
		var l lastWords
		for _, part := range []string{"key ", secret, " ", strings.Repeat(".", after)} {
			_, _ = l.Write([]byte(part))
		}
		got := strings.ReplaceAll(l.String(), secret, Redacted)
		if strings.Contains(got, secret[len(secret)-minPiece:]) {
			t.Fatalf("before %d bytes: %q", after, got)
		}
	}
	var l lastWords
	_, _ = l.Write([]byte("fatal: no disk\n"))
	if got := l.String(); got != "fatal: no disk" {
		t.Errorf("%q", got)
	}
}
