//go:build !linux

package main

import "syscall"

func orphan() *syscall.SysProcAttr { return nil }
