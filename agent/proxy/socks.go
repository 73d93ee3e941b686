package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"
)

// Auth is a user name and password that clients must present. Over a loopback
// listener it keeps other users of the machine out; it does not encrypt anything.
type Auth struct{ User, Password string }

// matches compares in a time that tells nothing of the right answer, its length
// included. A nil Auth matches everything.
func (a *Auth) matches(user, password string) bool {
	if a == nil {
		return true
	}
	u1, u2 := sha256.Sum256([]byte(a.User)), sha256.Sum256([]byte(user))
	p1, p2 := sha256.Sum256([]byte(a.Password)), sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(u1[:], u2[:])&subtle.ConstantTimeCompare(p1[:], p2[:]) == 1
}

// SOCKS is a SOCKS5 server with CONNECT and UDP ASSOCIATE. Names are resolved by the
// Dialer, never by the machine it runs on.
type SOCKS struct {
	Dialer Dialer
	Auth   *Auth // nil lets everyone in who reaches the listener
	Limits Limits
	Log    *slog.Logger // nil discards
}

// Run serves until ctx ends, and closes l.
func (s *SOCKS) Run(ctx context.Context, l net.Listener) error {
	run := socksRun{dialer: s.Dialer, auth: s.Auth, limits: s.Limits.withDefaults(), log: logger(s.Log)}
	return serve(ctx, l, run.limits.Conns, run.log, run.handle)
}

// socksRun is a SOCKS with its defaults filled in.
type socksRun struct {
	dialer Dialer
	auth   *Auth
	limits Limits
	log    *slog.Logger
}

func (s *socksRun) handle(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { abort(c) })
	defer stop()
	c.SetDeadline(time.Now().Add(s.limits.Handshake))
	if err := s.greet(c); err != nil {
		s.log.Debug("socks: greeting", "client", c.RemoteAddr(), "err", err)
		return
	}
	cmd, to, err := readRequest(c)
	switch {
	case errors.Is(err, errAddress):
		reply(c, replyBadAddress, destination{})
	case errors.Is(err, errName):
		reply(c, reasonTable[UnknownName].socks, destination{})
	case err != nil:
		s.log.Debug("socks: request", "client", c.RemoteAddr(), "err", err)
	case cmd == cmdConnect:
		s.connect(ctx, c, to)
	case cmd == cmdAssociate:
		s.associate(ctx, c, to)
	default: // BIND: nothing on the overlay may open a flow to a client of ours
		reply(c, replyBadCommand, destination{})
	}
}

var (
	errNoMethod    = errors.New("no authentication method in common")
	errCredentials = errors.New("wrong user name or password")
)

// greet agrees on a method and, where there is one, checks the password.
//
//	client: version 1 | n 1 | methods n          server: version 1 | method 1
//	client: 1 | n 1 | user n | m 1 | password m  server: 1 | status 1
func (s *socksRun) greet(c net.Conn) error {
	var b [256]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	if b[0] != socksVersion {
		return errVersion
	}
	methods := b[:b[1]]
	if _, err := io.ReadFull(c, methods); err != nil {
		return err
	}
	want := byte(methodNone)
	if s.auth != nil {
		want = methodPassword
	}
	found := false
	for _, m := range methods {
		found = found || m == want
	}
	if !found {
		c.Write([]byte{socksVersion, methodRefused})
		return errNoMethod
	}
	if _, err := c.Write([]byte{socksVersion, want}); err != nil || want == methodNone {
		return err
	}

	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return err
	}
	if b[0] != authVersion {
		return errors.New("unknown version of the password method")
	}
	user, err := readString(c)
	if err != nil {
		return err
	}
	password, err := readString(c)
	if err != nil {
		return err
	}
	if !s.auth.matches(user, password) {
		c.Write([]byte{authVersion, 1})
		return errCredentials
	}
	_, err = c.Write([]byte{authVersion, 0})
	return err
}

// readString reads a length of one byte and as many bytes.
func readString(r io.Reader) (string, error) {
	var b [256]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return "", err
	}
	s := b[1 : 1+int(b[0])]
	_, err := io.ReadFull(r, s)
	return string(s), err
}

// reply answers a request:
//
//	version 1 | code 1 | reserved 1 | destination
func reply(c net.Conn, code byte, bound destination) error {
	_, err := c.Write(appendDestination([]byte{socksVersion, code, 0}, bound))
	return err
}

func (s *socksRun) connect(ctx context.Context, c net.Conn, to destination) {
	dialCtx, cancel := context.WithTimeout(ctx, s.limits.Dial)
	target, err := s.dialer.DialContext(dialCtx, "tcp", to.String())
	cancel()
	c.SetDeadline(time.Now().Add(s.limits.Handshake)) // the dial may have used it up
	if err != nil {
		why := reasonOf(err)
		s.log.Info("socks: not connected", "client", c.RemoteAddr(), "target", to.String(), "reason", why.String(), "err", err)
		reply(c, reasonTable[why].socks, destination{})
		return
	}
	if err := reply(c, replyOK, endpoint(target.LocalAddr())); err != nil {
		abort(target)
		return
	}
	c.SetDeadline(time.Time{})
	splice(ctx, c, target)
}
