//go:build !linux

package node

import "context"

// Lean waits for the end of ctx: other systems are not asked for the pages back.
func Lean(ctx context.Context) { <-ctx.Done() }

// Trim does nothing here.
func Trim() error { return nil }
