/* Stands in for libgcc's unwinder in the programs as users run them: they end at a panic and have no tables to unwind
   by (release.ld), so it could find nothing. Loading it would cost each start a sixth of its time, and with it inside
   of the program it would end one that asks for a backtrace, because it cannot even find itself. */

#define END_OF_STACK 5

int _Unwind_Backtrace(void *trace, void *argument) {
  (void)trace;
  (void)argument;
  return END_OF_STACK;
}

/* Asked in a frame that was found, or while something is unwound: never. */
#define NEVER(name) \
  void name(void) { __builtin_trap(); }

NEVER(_Unwind_DeleteException)
NEVER(_Unwind_FindEnclosingFunction)
NEVER(_Unwind_GetCFA)
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_RaiseException)
NEVER(_Unwind_Resume)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)
