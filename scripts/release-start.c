/* Where the stack of a program's first thread lies, which Rust asks for at each start, to tell an overflow of it from
   another fault. libc looks it up in /proc/self/maps, a tenth of a start; the kernel has told it already: the name of
   the program is the last on the stack, but for one word of zeros. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

int __real_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes);

int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes) {
  const char *name = (const char *)getauxval(AT_EXECFN);
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  struct rlimit limit;
  if (name == NULL || gettid() != getpid() || getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return __real_pthread_getattr_np(thread, attributes);
  uintptr_t end = (uintptr_t)name + strlen(name) + 1 + sizeof(void *);
  uintptr_t size = (uintptr_t)limit.rlim_cur & -page;
  if (end % page != 0 || size >= end)
    return __real_pthread_getattr_np(thread, attributes);
  int failure = pthread_attr_init(attributes);
  return failure != 0 ? failure : pthread_attr_setstack(attributes, (void *)(end - size), size);
}
