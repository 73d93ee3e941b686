package cli

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"enclave/wire"
)

func TestGuard(t *testing.T) {
	for in, want := range map[string][2]string{
		"plain ünïcödé 日本 👩‍🚀\t\n":     {"plain ünïcödé 日本 👩‍🚀\t\n", "plain ünïcödé 日本 👩‍🚀\t\n"},
		"\x1b]52;c;QQ==\a":             {"\uFFFD]52;c;QQ==\uFFFD", `\u001b]52;c;QQ==\u0007`},
		"\u009b2J\u202e\u200fa\u200bb": {"\uFFFD2J\uFFFD\uFFFDa\uFFFDb", `\u009b2J\u202e\u200fa\u200bb`},
		"\U000e0041":                   {"\uFFFD", `\udb40\udc41`},
		"a\rb\x9b\xff":                 {"a\uFFFDb\uFFFD\uFFFD", `a\u000db` + "\uFFFD\uFFFD"},
		"cut \xe2\x80":                 {"cut \uFFFD", "cut \uFFFD"},
	} {
		for i, document := range []bool{false, true} {
			for _, size := range []int{1, 2, 1000} {
				var out bytes.Buffer
				g := newGuard(&out, func() bool { return document })
				for b := []byte(in); len(b) > 0; b = b[min(size, len(b)):] {
					if n, err := g.Write(b[:min(size, len(b))]); n != min(size, len(b)) || err != nil {
						t.Fatal(n, err)
					}
				}
				if g.flush(); out.String() != want[i] {
					t.Errorf("%q, document %v, %d at a time: %q, want %q", in, document, size, out.String(), want[i])
				}
			}
		}
	}
}

// TestLostOutput: who redirects a key that is shown once to a full disk is told, whatever
// the verb; a reader that has seen enough is none of that.
func TestLostOutput(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
		say  string
	}{
		{syscall.ENOSPC, exitTryAgain, "no space left on device"},
		{syscall.EPIPE, exitOK, ""},
		{nil, exitOK, ""},
	} {
		for _, line := range []string{"exit-codes", "version", "--help"} {
			var errs bytes.Buffer
			s := Streams{In: strings.NewReader(""), Out: broken{c.err}, Err: &errs, Getenv: func(string) string { return "" }}
			if got := Main(t.Context(), strings.Fields(line), s); got != c.want || !strings.Contains(errs.String(), c.say) {
				t.Errorf("%s, written with %v: exit %d, want %d: %s", line, c.err, got, c.want, &errs)
			}
		}
	}
}

type broken struct{ err error }

func (b broken) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: b.err}
	}
	return len(p), nil
}

// TestGuardIsShared writes lines that have to be changed from several goroutines, as a
// logger and a console do: each comes out whole.
func TestGuardIsShared(t *testing.T) {
	var out bytes.Buffer
	g := newGuard(&out, func() bool { return false })
	var all sync.WaitGroup
	for _, line := range []string{"one\x1b\n", "another, longer\u202e\n", "and a third\n"} {
		all.Go(func() {
			for range 200 {
				if _, err := io.WriteString(g, line); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for line := range strings.Lines(out.String()) {
		if line != "one\uFFFD\n" && line != "another, longer\uFFFD\n" && line != "and a third\n" {
			t.Fatalf("%q came out", line)
		}
	}
}

// FuzzGuard: nothing that steers comes through, however the text is cut, and a document
// reads back as what it was.
func FuzzGuard(f *testing.F) {
	f.Add("a\x1b[31m\u202e", uint8(3))
	f.Add("\xe2\x80\xae\xf3\xa0\x81\x81", uint8(2))
	f.Fuzz(func(t *testing.T, text string, at uint8) {
		for _, document := range []bool{false, true} {
			var out bytes.Buffer
			g := newGuard(&out, func() bool { return document })
			in := []byte(text)
			if document {
				in, _ = json.Marshal(text)
			}
			cut := min(int(at), len(in))
			_, _ = g.Write(in[:cut])
			_, _ = g.Write(in[cut:])
			g.flush()
			if !utf8.Valid(out.Bytes()) || steered(out.String()) >= 0 {
				t.Fatalf("%q passes as %q", text, out.String())
			}
			if back := ""; document && (json.Unmarshal(out.Bytes(), &back) != nil || back != strings.ToValidUTF8(text, "\uFFFD") && utf8.ValidString(text)) {
				t.Fatalf("%q reads back as %q", text, back)
			}
		}
	})
}

// steered is where a text holds what steers a terminal, or -1.
func steered(text string) int {
	return strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && wire.Steers(r) })
}

// evil is what a hostile server puts after every text.
const evil = "\x1b]52;c;QUFB\x07\u009b31m\u202e\r\x9d8;;http://x\x9c"

// spoil puts evil behind the texts of an answer, those of one name or all. What is no free
// text (an instant, an address, a cursor) stays, or the answer would not be read at all.
func spoil(v any, name, only string) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = spoil(v[k], k, only)
		}
	case []any:
		for i := range v {
			v[i] = spoil(v[i], name, only)
		}
	case string:
		_, noTime := time.Parse(time.RFC3339, v)
		_, noAddr := netip.ParseAddr(v)
		_, noPort := netip.ParseAddrPort(v)
		_, noPrefix := netip.ParsePrefix(v)
		if noTime != nil && noAddr != nil && noPort != nil && noPrefix != nil && name != "next" && (only == "" || only == name) {
			return v + evil
		}
	}
	return v
}

// textFields finds the fields of texts in an answer.
var textFields = regexp.MustCompile(`"([a-z_0-9]+)":\s*\[?"`)

// TestHostileServer: whatever a server answers, no command passes on what steers a
// terminal, neither as text nor as JSON, and neither in a refusal.
func TestHostileServer(t *testing.T) {
	s := newSite(t, nil)
	web := string(s.mustEnrol("web"))
	s.mustEnrol("laptop")
	s.ok("tag", "add", "web", "servers")
	s.ok("tag", "add", "laptop", "laptops")
	s.ok("policy", "create", "Web", "--from", "laptops", "--to", "servers", "--allow", "tcp/8080", "--hours", "mon-sun 00:00-24:00 UTC", "--expires", "7d")
	s.ok("system", "route", "add", "web", "192.168.1.0/24")
	s.ok("policy", "create", "Office", "--from", "laptops", "--gateway", "web=192.168.1.0/24", "--allow", "tcp/443")
	s.ok("dns", "zone", "create", "corp.example", "--auto-tag", "servers")
	s.ok("dns", "record", "create", "db.corp.example", "--tag", "servers")
	s.ok("trust", "met", "web", "mfa", "--until", "1h")
	s.ok("token", "create", "ci", "--scope", "read")

	target, _ := url.Parse(s.url)
	only, status := "", 0
	seen := map[string]bool{}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Header.Del("Accept-Encoding") },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // the hostile one is this proxy
		ModifyResponse: func(r *http.Response) error {
			raw, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			for _, m := range textFields.FindAllStringSubmatch(string(raw), -1) {
				seen[m[1]] = true
			}
			if status != 0 {
				r.StatusCode = status
				raw = []byte(`{"code":"conflict","title":"t","detail":"d","hint":"h","problems":[{"path":"p","message":"m"}]}`)
			}
			var v any
			if json.Unmarshal(raw, &v) == nil {
				raw, _ = json.Marshal(spoil(v, "", only))
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), -1
			r.Header.Del("Content-Length")
			return nil
		},
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	s.env["ENCLAVE_URL"] = front.URL

	bad := 0
	check := func(line []string) bool {
		out, errs, exit := s.run(line...)
		for _, text := range []string{out, errs} {
			if i := steered(text); i >= 0 || !utf8.ValidString(text) {
				if bad++; bad < 40 {
					t.Errorf("%v (field %q): %q", line, only, text[max(0, i-60):min(len(text), max(0, i)+60)])
				}
			}
		}
		return exit == exitOK
	}
	for _, line := range [][]string{
		{"status"}, {"system", "list"}, {"system", "show", web}, {"system", "access", web}, {"system", "peers", web}, {"system", "route", "list"},
		{"tag", "list"}, {"policy", "list"}, {"policy", "show", "Web"}, {"policy", "export"}, {"policy", "history"}, {"policy", "compare", "2"}, {"policy", "test"},
		{"policy", "disable", "Web", "--dry-run"}, {"policy", "delete", "Web", "--dry-run"}, {"system", "revoke", "web", "--dry-run"}, {"tag", "remove", "web", "servers", "--dry-run"},
		{"dns", "zone", "list"}, {"dns", "record", "list"}, {"resolve", "db.corp.example", "--as", "laptop"}, {"trust", "list"}, {"token", "list"}, {"key", "list"}, {"relays", "list"},
		{"explain", "laptop", "web", "tcp/8080"}, {"explain", "laptop", "192.168.1.7", "tcp/443"}, {"forecast"}, {"graph"}, {"flows"}, {"flows", "--denied"},
		{"audit", "list"}, {"audit", "subjects"}, {"audit", "segments"}, {"audit", "key"}, {"audit", "checkpoint"}, {"audit", "prove", "1"}, {"activity"},
		{"key", "create", "--name", "n"}, {"seal", "status"}, {"__complete", "policy", "show", ""}, {"__complete", "system", "show", ""},
		{"__complete", "tag", "add", "web", ""}, {"__complete", "explain", ""}, {"waitfor", "web", "--timeout", "1ms"},
	} {
		clear(seen)
		only, status = "", 0
		whole := check(line)
		check(append(line, "--json"))
		for name := range seen {
			if !whole { // an answer that is not read whole may be with one field
				only = name
				check(line)
				check(append(line, "--json"))
			}
		}
		only, status = "", http.StatusConflict
		check(line)
		check(append(line, "--json"))
	}
}
