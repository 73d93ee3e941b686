package agent

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestADialHearsThatNobodyIsThere, and only then: not while the peer answers, not before it
// had time to come back, and not of what the caller ended.
func TestADialHearsThatNobodyIsThere(t *testing.T) {
	failed := errors.New("failed")
	for name, c := range map[string]struct {
		answers  bool          // to who asks the peer itself
		connects time.Duration // 0 is never
		fails    time.Duration
		patience time.Duration
		want     error
		took     time.Duration
	}{
		"connects":                      {connects: time.Second, patience: time.Minute, took: time.Second},
		"comes back":                    {connects: silence + time.Second, patience: time.Minute, took: silence + time.Second},
		"is not there":                  {patience: time.Minute, want: errSilent, took: silence + silenceAsked},
		"is there, and its service not": {answers: true, patience: time.Minute, want: context.DeadlineExceeded, took: time.Minute},
		"is there, and slow":            {answers: true, connects: 40 * time.Second, patience: time.Minute, took: 40 * time.Second},
		"refuses":                       {fails: time.Second, patience: time.Minute, want: failed, took: time.Second},
		"is not waited for":             {patience: 5 * time.Second, want: context.DeadlineExceeded, took: 5 * time.Second},
		"is not waited for when asked":  {patience: silence + time.Second, want: context.DeadlineExceeded, took: silence + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.patience)
				defer cancel()
				began := time.Now()
				_, err := unlessSilent(ctx, func(ctx context.Context) error {
					if c.answers {
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}, func(ctx context.Context) (net.Conn, error) {
					var connected, refused <-chan time.Time
					if c.connects > 0 {
						connected = time.After(c.connects)
					}
					if c.fails > 0 {
						refused = time.After(c.fails)
					}
					select {
					case <-connected:
						return nil, nil
					case <-refused:
						return nil, failed
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
				if took := time.Since(began); !errors.Is(err, c.want) || took != c.took {
					t.Errorf("%v after %s, want %v after %s", err, took, c.want, c.took)
				}
			})
		})
	}
}
