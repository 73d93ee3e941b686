package control

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"enclave/store"
	"enclave/wire"
	"enclave/wire/api"
)

// Config is what a server is made of. Zero durations and limits mean the defaults
// named beside them.
type Config struct {
	Store  *store.Store // open, with an organisation
	Logger *slog.Logger

	// Hosts are DNS names and addresses for the server's certificate, besides its
	// SPIFFE ID, for API clients that check those. Agents do not.
	Hosts []string

	// ALPN adds protocols to the TLS listener, so that a relay can share its port.
	ALPN map[string]Protocol

	// APIListener, when set, serves the API in plain HTTP. It is for loopback only:
	// the API's tokens cross it in the clear.
	APIListener net.Listener

	// CountryFile, when set, is a table of "range,country" lines by which public-ip
	// requirements tell the country of an address. Without it no country is known.
	CountryFile string

	Heartbeat     time.Duration // wire.HeartbeatEvery
	MaxPerAddress int           // 256: connections from one address

	Version string // of this program, for /api/v1/version

	// Backups tells of the schedule of backups; may be nil.
	Backups func() *api.BackupStatus
}

// Protocol is a protocol that shares the TLS listener, told apart by its ALPN name.
type Protocol struct {
	// TLS is the configuration of its handshakes: it has an identity of its own. Nil
	// from it refuses the connection, while that identity does not exist yet.
	TLS func() *tls.Config
	// Serve owns the connection until it returns.
	Serve func(*tls.Conn)
}

const (
	requestTimeout = 10 * time.Second // of a request that is no stream, body included
	headerTimeout  = 5 * time.Second
	writeTimeout   = 30 * time.Second // of one message of a stream
	shutdownGrace  = 5 * time.Second  // for open requests
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	// pingAfter is how long a connection may be silent before HTTP/2 asks whether
	// the other end lives; without it a vanished agent would count as connected.
	pingAfter   = 20 * time.Second
	pingTimeout = 15 * time.Second
)

// withDefaults fills in what is zero and returns every mistake at once.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("config: Store is missing"))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for proto, f := range c.ALPN {
		if f.Serve == nil || f.TLS == nil || proto == "h2" || proto == "http/1.1" || proto == "" {
			errs = append(errs, errors.New("config: ALPN protocol "+proto+" cannot be added"))
		}
	}
	if c.Heartbeat < 0 {
		errs = append(errs, errors.New("config: a duration is negative"))
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = wire.HeartbeatEvery
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 256
	}
	return c, errors.Join(errs...)
}
