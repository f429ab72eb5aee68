# %% [markdown]
# # Placeholder
# %%
import jaxmed
print(jaxmed.__version__)
