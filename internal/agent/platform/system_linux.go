package platform

import "syscall"

// systemInfo says which machine and kernel this is, as uname does.
func systemInfo() map[string]any {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return nil
	}
	return map[string]any{"systemPlatform": text(u.Machine[:]), "systemKernelVersion": text(u.Release[:])}
}

// text is what stands before the first zero. Its members are of another type on other
// machines.
func text[T int8 | uint8](field []T) string {
	var out []byte
	for _, c := range field {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}
