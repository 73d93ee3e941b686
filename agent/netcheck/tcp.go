package netcheck

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"enclave/agent/link"
	"enclave/wire/frame"
	"enclave/wire/svid"
)

// TrustOf asks a control plane, host:port, for the root that fingerprint names, by which
// relays can be told from impostors.
func TrustOf(ctx context.Context, n link.Network, control, fingerprint string) (*svid.Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeIn)
	defer cancel()
	conn, err := n.DialContext(ctx, "tcp", control)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := tls.Client(conn, svid.FirstContactConfig(fingerprint, nil))
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	cs := c.ConnectionState()
	org, root, err := svid.FirstContact(&cs)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &svid.Trust{Org: org, Roots: roots}, nil
}

// errRefused is a proxy that does not connect.
var errRefused = errors.New("the proxy refuses")

// askTLS connects to a relay, straight and then through the proxy of the environment, and
// looks at who answers. It sends no certificate and nothing after the handshake.
func (cfg *Config) askTLS(ctx context.Context, t Target) (out TLSReport) {
	if t.Addr == "" {
		return TLSReport{State: TLSSkipped}
	}
	begun := time.Now()
	conn, err := cfg.dial(ctx, t.Addr)
	out.RTT = max(time.Since(begun), 1)
	if err != nil {
		proxy := cfg.proxyFor(t.Addr)
		if proxy == nil {
			return TLSReport{State: TLSBlocked, Error: err.Error()}
		}
		if conn, err = cfg.connect(ctx, proxy, t.Addr); err != nil {
			return TLSReport{State: TLSBlocked, Error: err.Error()}
		}
		out = TLSReport{Via: proxy.Redacted()}
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, handshakeIn)
	defer cancel()
	host, _, _ := net.SplitHostPort(t.Addr)
	protos := []string{frame.ALPN}
	if t.Kind == svid.KindControl {
		protos = []string{"h2", "http/1.1"}
	}
	c := tls.Client(conn, &tls.Config{
		ServerName: host, NextProtos: protos,
		// Nothing is believed and nothing said: what is shown is looked at below, also
		// when it is a middlebox's, which is the point of asking.
		InsecureSkipVerify: true,
	})
	if err := c.HandshakeContext(ctx); err != nil {
		out.State, out.Error = TLSBroken, err.Error()
		return out
	}
	cs := c.ConnectionState()
	out.State, out.Issuer = cfg.look(&cs, t.Kind, protos)
	return out
}

// look judges what a handshake showed.
func (cfg *Config) look(cs *tls.ConnectionState, kind string, protos []string) (TLSState, string) {
	if len(cs.PeerCertificates) == 0 {
		return TLSBroken, ""
	}
	leaf := cs.PeerCertificates[0]
	id, err := svid.FromCert(leaf)
	if err != nil || id.Kind != kind && id.Kind != svid.KindControl {
		return TLSIntercepted, issuer(leaf)
	}
	state := TLSUnverified
	if t := cfg.Trust; t != nil {
		chain := make([][]byte, len(cs.PeerCertificates))
		for i, c := range cs.PeerCertificates {
			chain[i] = c.Raw
		}
		if _, _, err := svid.Verify(chain, t.Roots, t.Org, cfg.Now()); err != nil {
			return TLSIntercepted, issuer(leaf) + " (" + err.Error() + ")"
		}
		state = TLSVerified
	}
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != protos[0] {
		return TLSRewritten, ""
	}
	return state, ""
}

func issuer(leaf *x509.Certificate) string {
	name := leaf.Issuer.String()
	if name == "" {
		name = "nobody"
	}
	return fmt.Sprintf("%.120q", name)
}

func (cfg *Config) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialIn)
	defer cancel()
	return cfg.Network.DialContext(ctx, "tcp", addr)
}

// connect asks an HTTP proxy for a connection (RFC 9110 section 9.3.6).
func (cfg *Config) connect(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	if proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, fmt.Errorf("%w: a proxy of kind %.20q is none for HTTP", errRefused, proxy.Scheme)
	}
	at := proxy.Host
	if proxy.Port() == "" {
		at = net.JoinHostPort(proxy.Hostname(), map[string]string{"http": "80", "https": "443"}[proxy.Scheme])
	}
	conn, err := cfg.dial(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname()})
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeIn))
	r := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	err = req.Write(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(r, req)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("proxy: %w", err)
	case resp.StatusCode/100 != 2:
		err = fmt.Errorf("%w: %s", errRefused, resp.Status)
	case r.Buffered() > 0:
		err = fmt.Errorf("%w: it speaks before it was spoken to", errRefused)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// maxAnswer bounds what is read of an HTTP answer's head.
const maxAnswer = 64 << 10
