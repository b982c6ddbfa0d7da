/* Where a Cortex-M begins: the top of its stack, and the C library's start. */
extern char __stack[];
extern void _start(void);
__attribute__((section(".vectors"), used)) static void *const vectors[] = {__stack, _start};
