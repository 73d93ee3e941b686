package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
)

// Dialer connects to the overlay; the agent implements it, and *net.Dialer does for
// targets on this machine. Network is "tcp" or "udp", addr host:port with a name or
// an address. Connections that have CloseWrite and SetLinger are half-closed and
// reset with them, as *net.TCPConn and *tunnel.TCPConn are.
type Dialer interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Reason is why a target was not reached.
type Reason uint8

// The reasons, each with an answer of its own in SOCKS5 and HTTP.
const (
	Failed      Reason = iota // none of the following
	Denied                    // policy does not allow it
	UnknownName               // no system of that name or address that we are connected to
	Offline                   // the system is known but has no path now
	NoRoute                   // the address belongs to no network we reach
	Refused                   // the system answered that nothing listens there
	TimedOut                  // no answer in time
	Reset                     // the system took the flow and ended it at once
	reasons
)

// reasonTable is read only; its order is that of the constants.
var reasonTable = [reasons]struct {
	text   string
	socks  byte   // RFC 1928 section 6
	status int    // HTTP
	next   string // what the user may do
}{
	Failed:      {"failed", 0x01, http.StatusBadGateway, "look into the agent's log"},
	Denied:      {"denied by policy", 0x02, http.StatusForbidden, `run "enclave explain" for this system and target, or ask for a policy`},
	UnknownName: {"unknown name", 0x04, http.StatusBadGateway, `run "enclave agent status" for the systems that you are connected to`},
	Offline:     {"system offline", 0x04, http.StatusBadGateway, `run "enclave agent status" to see since when`},
	NoRoute:     {"no route", 0x03, http.StatusBadGateway, `run "enclave agent status" for the systems and subnets that you are connected to`},
	Refused:     {"connection refused", 0x05, http.StatusBadGateway, "check that the service runs there and that its agent exposes the port"},
	Reset:       {"connection reset", 0x05, http.StatusBadGateway, `check that the service runs behind that system's --expose, and with "enclave explain" that no policy has just ended`},
	TimedOut:    {"no answer in time", 0x06, http.StatusGatewayTimeout, `run "enclave ping" for the system to see whether a path exists`},
}

func (r Reason) String() string {
	if r < reasons {
		return reasonTable[r].text
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Error is how a Dialer says why it failed.
type Error struct {
	Reason Reason
	Target string // as it was asked for
	Err    error  // more about it; may be nil
}

func (e *Error) Error() string {
	s := "dial " + e.Target + ": " + e.what()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// what is the reason in words. An address is no unknown name; whether somebody has it whom
// policy hides, the dialer does not know either.
func (e *Error) what() string {
	if e.Reason == UnknownName {
		host, _, err := net.SplitHostPort(e.Target)
		if err != nil {
			host = e.Target // a ping has no port
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			return "no system that policy connects to this one has the address " + ip.String() + ", and no gateway leads there"
		}
	}
	return e.Reason.String()
}

// Is lets an Error without a target stand for every error of its reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Target == "" && t.Reason == e.Reason
}

func (e *Error) Unwrap() error { return e.Err }

// reasonOf classifies what any Dialer returns.
func reasonOf(err error) Reason {
	var e *Error
	var timeout net.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &e) && e.Reason < reasons:
		return e.Reason
	case errors.As(err, &dns) && dns.IsNotFound:
		return UnknownName
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET):
		return Reset
	case errors.Is(err, syscall.EHOSTUNREACH):
		return Offline
	case errors.Is(err, syscall.ENETUNREACH):
		return NoRoute
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return TimedOut
	}
	return Failed
}
