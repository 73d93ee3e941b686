package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"enclave/sandbox/client"
)

// selfSigned writes a certificate for 127.0.0.1 and returns what trusts it.
func selfSigned(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

func TestSandboxServeOverTLSReadsItsFilesAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGHUP here")
	}
	l := emptyLab(t)
	file, cert, key := l.path("tools.json"), l.path("cert.pem"), l.path("key.pem")
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(`{"version":1,"tools":[{"name":"slow","serve":{"canned":{"delay":"1h"}}},{"name":"`+name+`","serve":{"canned":{"result":"`+name+`"}}}]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	pool := selfSigned(t, cert, key)
	p := l.start("serve", "sandbox", "serve", "--json", "--state", l.path("sandbox"), "--listen", "127.0.0.1:0", "--tools", file, "--tls-cert", cert, "--tls-key", key)
	var first struct {
		URL       string
		TokenFile string `json:"token_file"`
	}
	if err := json.Unmarshal([]byte(p.line(20*time.Second)), &first); err != nil {
		t.Fatal(err)
	}
	over := func(pool *x509.CertPool) *client.Client {
		return &client.Client{URL: first.URL, Token: tokenIn(t, first.TokenFile),
			HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}}
	}
	c := over(pool)
	var got string
	if err := c.Eval(t.Context(), client.Request{Code: `return await callTool("first", {})`}, &got); err != nil || got != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := over(x509.NewCertPool()).Eval(t.Context(), client.Request{Code: "return 1"}, nil); err == nil {
		t.Error("a client that does not trust the certificate was served")
	}
	s, err := c.Run(t.Context(), client.Request{Code: `return await callTool("slow", {})`, Filter: "tool_call,catalog_changed"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		e, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch e.Type {
		case "tool_call":
			pool = selfSigned(t, cert, key)
			write("second")
			if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			continue
		case "catalog_changed":
		default:
			continue
		}
		var change struct {
			Added   []string `json:"addedActions"`
			Removed []string `json:"removedActions"`
		}
		if err := json.Unmarshal(e.Payload, &change); err != nil || len(change.Added) != 1 || change.Added[0] != "second" || len(change.Removed) != 1 || change.Removed[0] != "first" {
			t.Errorf("%s, %v", e.Payload, err)
		}
		break
	}
	if err := s.Cancel(t.Context()); err != nil {
		t.Error(err)
	}
	if err := over(pool).Eval(t.Context(), client.Request{Code: `return await callTool("second", {})`}, &got); err != nil || got != "second" {
		t.Errorf("with the new certificate and tools: %q, %v", got, err)
	}
}
